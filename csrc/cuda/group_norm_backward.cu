// Group norm of planes, backward: the gradient of the input and, in a second launch, of weight and bias.
//
//   g = w dy;  dx = rstd (g - mean of g - xhat mean of (g xhat)), means over the group
//   dw = sum of dy xhat,  db = sum of dy, over samples and planes
//
// A group is cut into segments, none across two planes: that is what the channels' sums need, and a
// segment has one weight. A team of 1 to 32 lanes takes every so-manieth segment:
//
//   group    │ plane 0         │ plane 1         │ plane 2         │   one block, or a cluster, or, where
//   segments │  0  │  1  │  2  │  3  │  4  │  5  │  6  │  7  │  8  │   a warp is enough, a part of one
//   team        0     1     2     3     0     1     2     3     0
//
// Phases: read x and dy and keep them in shared memory as far as they fit, sums of each segment by
// shuffles, of the group by the block and its cluster, answer from what was kept, the last first; what did
// not fit is read again. Bytes: 3ne, 5ne where nothing fits. A cluster of eight keeps 1.6 MB of both.
//
// Each channel's sums over a sample are one partial sum (one for each block of the cluster where planes
// are cut), added up by sum_columns() in their order. Sums are of few elements in real, of all in double,
// and their order follows from the shape: the result is the same every time.
#include "cuda/group_norm.h"

namespace benchbench::cuda {
namespace {

constexpr unsigned THREADS = 512, SMALL_THREADS = 256;
constexpr int AT_ONCE = AHEAD / 2;  // units of each input that a thread has under way

struct Segments {
  int64_t area_units;  // of a plane
  int64_t parts;       // segments of a plane
  int64_t part_units;  // of a segment; the last of a plane may have fewer
  int64_t count;       // segments of a group
  int64_t visits;      // segments of a team, at most
  int64_t each;        // units of a lane in a segment, at most
  unsigned lanes;      // of a team
  unsigned span;       // threads of a group; 0: a block, or all of a cluster
  unsigned kept;       // units of a thread that stay in shared memory

  constexpr int64_t table() const { return parts > 1 ? visits * (THREADS / lanes) : 0; }  // its entries
};

// The segment that a team visits; no units where there is none.
struct Segment {
  int64_t at, units, plane;
  bool there;
};

// Sums of the first `lanes` neighbours, a power of two; all lanes of the warp call.
__device__ __forceinline__ void add_lanes(unsigned lanes, double& a, double& b) {
  for (unsigned by = lanes / 2; by; by /= 2) {
    a += __shfl_xor_sync(ALL_LANES, a, by);
    b += __shfl_xor_sync(ALL_LANES, b, by);
  }
}

// Told that one block suffices, the compiler spends the registers; untold, it saves some and spills.
template <class T, bool WHOLE>
__global__ void __launch_bounds__(THREADS, 1)
    group_segments(GroupNormGradient k, Segments s, Real<T>* pw, Real<T>* pb) {
  using R = Real<T>;
  constexpr int S = SPAN<T, WHOLE>, U = AT_ONCE;
  const unsigned tiles = cluster_size(), rank = cluster_rank();
  const unsigned span = s.span ? s.span : blockDim.x, own = threadIdx.x % span;
  const int64_t group = s.span ? int64_t(blockIdx.x) * (blockDim.x / span) + threadIdx.x / span
                               : int64_t(blockIdx.x) / tiles;
  const bool there = group < k.shape.rows();
  const int64_t planes = k.shape.planes(), area = k.shape.area;
  const int64_t sample = there ? group / k.shape.groups : 0;
  const int64_t first = there ? group % k.shape.groups * planes : 0;  // channel
  const unsigned local_teams = span / s.lanes, lane = own % s.lanes;
  const int64_t teams = int64_t(local_teams) * tiles;
  const int64_t team = int64_t(rank) * local_teams + own / s.lanes;
  char* const shared = shared_memory();
  auto* const table = reinterpret_cast<Measure*>(shared + ROW_SHARED);  // of segments' sums
  char* const chip = shared + ROW_SHARED + s.table() * int64_t(sizeof(Measure));
  Kept<T, WHOLE> kept_x{chip};
  Kept<T, WHOLE> kept_g{chip + int64_t(s.kept) * blockDim.x * Kept<T, WHOLE>::BYTES};
  const T *const x = static_cast<const T*>(k.x), *const dy = static_cast<const T*>(k.dy);
  T* const dx = static_cast<T*>(k.dx);
  const double mean = there ? k.mean[group] : 0;
  const R rstd = there ? static_cast<const R*>(k.rstd)[group] : R(0), center = static_cast<R>(mean);
  const double beside = mean - static_cast<double>(center);

  const auto segment = [&](int64_t visit) {
    const int64_t number = team + visit * teams;
    Segment g{};
    g.there = there && number < s.count;
    if (!g.there) return g;
    g.plane = s.parts == 1 ? number : number / s.parts;
    const int64_t begin = (number - g.plane * s.parts) * s.part_units;
    g.units = larger(smaller(s.part_units, s.area_units - begin), int64_t(0));
    g.at = (group * planes + g.plane) * area + begin * S;
    return g;
  };

  double sum = 0, cross = 0;  // of w dy, and of w dy (x - mean): the team's first lane has them
  for (int64_t visit = 0; visit < s.visits; ++visit) {
    const Segment g = segment(visit);
    double some = 0, product = 0;  // of dy, and of dy (x - center)
    for (int64_t j = 0; j < s.each; j += U) {
      Words vx[U], vg[U];
#pragma unroll
      for (int i = 0; i < U; ++i) {
        const int64_t unit = (j + i) * s.lanes + lane;
        if (j + i < s.each && unit < g.units) {
          load_span<T, WHOLE>(x + g.at + unit * S, vx[i]);
          load_span<T, WHOLE>(dy + g.at + unit * S, vg[i]);
        }
      }
      R few = 0, crossed = 0;
#pragma unroll
      for (int i = 0; i < U; ++i) {
        const int64_t slot = visit * s.each + j + i;
        if (j + i < s.each && (j + i) * s.lanes + lane < g.units) {
          R e[S], d[S];
          widen_span<T, WHOLE>(vx[i], e);
          widen_span<T, WHOLE>(vg[i], d);
#pragma unroll
          for (int l = 0; l < S; ++l) {
            few += d[l];
            crossed += d[l] * (e[l] - center);
          }
          if (slot < s.kept) {
            kept_x.put(slot, vx[i]);
            kept_g.put(slot, vg[i]);
          }
        }
      }
      some += few;
      product += crossed;
    }
    add_lanes(s.lanes, some, product);
    if (lane == 0 && g.there) {
      product -= beside * some;  // now of dy (x - mean)
      const double weight = static_cast<double>(weight_of<T>(k.w, first + g.plane, R(1)));
      sum += weight * some;
      cross += weight * product;
      const Measure of_channel{product * static_cast<double>(rstd), some};
      if (s.parts > 1) {
        table[visit * local_teams + own / s.lanes] = of_channel;
      } else {
        const int64_t at = sample * k.shape.channels + first + g.plane;
        if (pw) pw[at] = static_cast<R>(of_channel.a);
        if (pb) pb[at] = static_cast<R>(of_channel.b);
      }
    }
  }

  if (s.span) {
    add_lanes(span, sum, cross);
  } else {
    Block all{shared};
    if (tiles > 1) cluster_barrier();  // their shared memory exists
    all.sums(sum, cross);              // and this block's table is written
    if (s.parts > 1 && (pw || pb))
      for (int64_t plane = threadIdx.x; plane < planes; plane += blockDim.x) {
        double a = 0, b = 0;
        for (int64_t part = 0; part < s.parts; ++part) {
          const int64_t number = plane * s.parts + part;
          const int64_t local = number % teams - int64_t(rank) * local_teams;
          if (local < 0 || local >= local_teams) continue;
          const Measure m = table[number / teams * local_teams + local];
          a += m.a;
          b += m.b;
        }
        const int64_t at = (sample * tiles + rank) * k.shape.channels + first + plane;
        if (pw) pw[at] = static_cast<R>(a);
        if (pb) pb[at] = static_cast<R>(b);
      }
    cluster_sums(shared, sum, cross);
  }
  const Slope<R> f = group_slope(sum, cross, mean, rstd, static_cast<double>(planes * area));

  for (int64_t visit = s.visits - 1; visit >= 0; --visit) {
    const Segment g = segment(visit);
    const R slope = g.there ? f.slope * weight_of<T>(k.w, first + g.plane, R(1)) : R(0);
    for (int64_t j = s.each - 1; j >= 0; j -= U) {
      Words vx[U], vg[U];
#pragma unroll
      for (int i = 0; i < U; ++i) {
        const int64_t unit = (j - i) * s.lanes + lane, slot = visit * s.each + j - i;
        if (j - i >= 0 && unit < g.units) {
          if (slot < s.kept) {
            vx[i] = kept_x.get(slot);
            vg[i] = kept_g.get(slot);
          } else {
            load_span<T, WHOLE>(x + g.at + unit * S, vx[i]);
            load_span<T, WHOLE>(dy + g.at + unit * S, vg[i]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < U; ++i) {
        const int64_t unit = (j - i) * s.lanes + lane;
        if (j - i >= 0 && unit < g.units) {
          R e[S], d[S];
          widen_span<T, WHOLE>(vx[i], e);
          widen_span<T, WHOLE>(vg[i], d);
#pragma unroll
          for (int l = 0; l < S; ++l) d[l] = slope * d[l] + (f.curve * (e[l] - center) + f.rest);
          store_span<T, WHOLE>(dx + g.at + unit * S, d);
        }
      }
    }
  }
}

// The largest power of two that is at most n, and at most 32.
unsigned power_below(int64_t n) {
  unsigned p = 1;
  while (p < 32 && int64_t(p) * 2 <= n) p *= 2;
  return p;
}

// How groups are cut; the shape's sizes and the device decide, never the number of samples alone.
Shape cut(const GroupNormShape& g, int span_, int bytes, const Device& device, Segments& s) {
  const int64_t planes = g.planes(), chip = chip_of(device), half = chip / 2;
  s = {};
  s.area_units = g.area / span_;
  const int64_t units = planes * s.area_units, wanted = divided_up(units, AHEAD);
  Shape shape;
  s.lanes = power_below(larger(s.area_units / AT_ONCE, int64_t(1)));
  if (wanted <= 32) {
    s.span = 1;
    while (s.span < wanted) s.span *= 2;
    s.lanes = smaller(s.lanes, s.span);
    shape.threads = SMALL_THREADS;
    shape.blocks = static_cast<uint64_t>(divided_up(g.rows(), SMALL_THREADS / s.span));
  } else {
    const unsigned tiles = cluster_for(g.rows(), units, bytes, THREADS, device);
    shape.threads = threads_for(divided_up(wanted, tiles), THREADS);
    shape.cluster = tiles;
    shape.blocks = static_cast<uint64_t>(g.rows()) * tiles;
  }
  const int64_t teams =
      int64_t(s.span ? s.span : shape.threads) / s.lanes * shape.cluster;
  // Planes are cut so that each team has 1 to 4 segments and none much more to do than the others; a
  // segment's reduction counts as one more unit.
  int64_t least = INT64_MAX;
  for (int64_t visits = s.span ? 0 : 4; visits >= 0; --visits) {
    const int64_t finest = larger(s.area_units / s.lanes, int64_t(1));
    const int64_t parts = larger(smaller(visits * teams / planes, finest), int64_t(1));
    const int64_t part = divided_up(s.area_units, parts), each = divided_up(part, s.lanes);
    const int64_t turns = divided_up(planes * parts, teams);
    if (turns * (each + 1) > least) continue;
    least = turns * (each + 1);
    s.parts = parts;
    s.part_units = part;
    s.each = each;
    s.visits = turns;
  }
  s.count = planes * s.parts;
  const int64_t slots = s.visits * s.each, tables = s.table() * int64_t(sizeof(Measure));
  const int64_t all = slots * shape.threads * bytes;
  const int64_t memory = larger((all <= half ? half : chip) - tables, int64_t(0));
  s.kept = static_cast<unsigned>(smaller(slots, memory / (int64_t(shape.threads) * bytes)));
  shape.shared = static_cast<unsigned>(ROW_SHARED + tables + int64_t(s.kept) * shape.threads * bytes);
  return shape;
}

template <class T, bool WHOLE>
Shape cut(const GroupNormShape& g, const Device& device, Segments& s) {
  return cut(g, SPAN<T, WHOLE>, 2 * Kept<T, WHOLE>::BYTES, device, s);
}

int64_t partial_rows(const GroupNormShape& g, const Shape& shape, const Segments& s) {
  return g.batch * (s.parts > 1 ? shape.cluster : 1);
}

}  // namespace

int64_t group_partial_rows(Type type, const GroupNormShape& g, bool pixels, const Device& device) {
  if (pixels) return pixel_partial_rows(type, g, device);
  int64_t rows = 1;
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    Segments s;
    Shape shape = cut<T, false>(g, device, s);
    rows = partial_rows(g, shape, s);
    if (g.area % WIDTH<T> == 0) {
      shape = cut<T, true>(g, device, s);
      rows = larger(rows, partial_rows(g, shape, s));
    }
    return Failure{};
  });
  return rows;
}

Failure group_planes_backward(Type type, const GroupNormGradient& k, void* partial,
                              const Device& device) {
  if (k.shape.empty()) return {};
  int64_t rows = 0;
  const Failure failure = with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using R = Real<T>;
    const bool whole =
        k.shape.area % WIDTH<T> == 0 && aligned(k.x) && aligned(k.dy) && aligned(k.dx);
    const auto run = [&](auto whole_) {
      constexpr bool WHOLE = decltype(whole_)::value;
      Segments s;
      const Shape shape = cut<T, WHOLE>(k.shape, device, s);
      rows = partial_rows(k.shape, shape, s);
      R* const pw = static_cast<R*>(partial);
      return launch("group_norm_backward", group_segments<T, WHOLE>, shape, device, k, s,
                    k.dw ? pw : nullptr, k.db ? pw + rows * k.shape.channels : nullptr);
    };
    return whole ? run(std::true_type{}) : run(std::false_type{});
  });
  if (failure || (!k.dw && !k.db)) return failure;
  return sum_group_columns(type, k, partial, rows, device);
}

}  // namespace benchbench::cuda
