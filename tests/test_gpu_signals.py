"""What the driver says of a GPU, asked of a driver that does not exist."""

from types import SimpleNamespace

import pytest

from benchbench import gpu, machine
from benchbench.contract import Result, Run
from benchbench.reports import legend
from benchbench.stats import summarise


class Driver:
    """As much of ``pynvml`` as is asked; a value that is missing is not supported."""

    class NVMLError(Exception):
        pass

    def __init__(self, **values):
        self.values = {"uuid": "GPU-abc", "clock": {1: 1980, 2: 3201}, **values}
        self.asked = []

    def nvmlInit(self):
        if "init" in self.values:
            raise self.NVMLError(self.values["init"])

    def _get(self, name):
        self.asked.append(name)
        if name not in self.values:
            raise self.NVMLError("Not Supported")
        return self.values[name]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != self.values["uuid"]:
            raise self.NVMLError("Not Found")
        return "by uuid"

    def nvmlDeviceGetHandleByIndex(self, index):
        return f"by index {index}"

    def nvmlDeviceGetClockInfo(self, handle, which):
        return self._get("clock")[which]

    def nvmlDeviceGetMaxClockInfo(self, handle, which):
        return self._get("clock")[which]

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._get("milliwatts")

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return self._get("limit")

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle):
        return self._get("limit")

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return self._get("heat")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._get("reasons")

    def nvmlDeviceGetViolationStatus(self, handle, policy):
        return SimpleNamespace(violationTime=self._get("violations").get(policy, 0))

    def nvmlDeviceGetMigMode(self, handle):
        return self._get("mig")

    def nvmlDeviceGetEccMode(self, handle):
        return self._get("ecc")

    def nvmlDeviceGetPersistenceMode(self, handle):
        return self._get("persistence")

    def nvmlSystemGetDriverVersion(self):
        return b"580.1"

    def nvmlSystemGetCudaDriverVersion(self):
        return 13000


class OldDriver(Driver):
    """Knows the mask of reasons by its old name."""

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        raise self.NVMLError("Function Not Found")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self._get("reasons")


def torch_with(uuid="abc"):
    properties = SimpleNamespace(**({} if uuid is None else {"uuid": uuid}))
    return SimpleNamespace(
        cuda=SimpleNamespace(
            current_device=lambda: 0, get_device_properties=lambda index: properties
        )
    )


def test_the_gpu_is_found_by_its_identity_whatever_is_visible():
    for torch, handle in (
        (torch_with(), "by uuid"),
        (torch_with("GPU-abc"), "by uuid"),
        (torch_with("another"), "by index 0"),
        (torch_with(None), "by index 0"),
    ):
        found, reason = gpu.gauge(torch, Driver())
        assert (found.handle, reason) == (handle, "")


def test_what_is_missing_is_said_with_how_to_get_it():
    found, reason = gpu.gauge(torch_with(), None)
    assert found is None and "pip install 'benchbench[gpu]'" in reason
    found, reason = gpu.gauge(torch_with(), Driver(init="Driver Not Loaded"))
    assert found is None and "NVML says Driver Not Loaded" in reason


def test_clocks_power_and_heat_are_read_before_and_after():
    driver = Driver(milliwatts=412_500, heat=61)
    record = gpu.Record(gauge=gpu.gauge(torch_with(), driver)[0])
    assert not record.look()
    driver.values.update(clock={1: 1500, 2: 3201}, heat=70)
    assert not record.look()
    assert record.signals() == {
        "sm_clock_before": 1980.0,
        "memory_clock_before": 3201.0,
        "power_before": 412.5,
        "temperature_before": 61.0,
        "sm_clock": 1500.0,
        "memory_clock": 3201.0,
        "power": 412.5,
        "temperature": 70.0,
    }
    assert record.note() == ""


def test_what_a_driver_does_not_tell_is_left_out_and_not_asked_again():
    driver = Driver()
    record = gpu.Record(gauge=gpu.gauge(torch_with(), driver)[0])
    for _ in range(5):
        record.look()
    assert set(record.signals()) == {
        "sm_clock_before",
        "memory_clock_before",
        "sm_clock",
        "memory_clock",
    }
    assert driver.asked.count("heat") == 1 and driver.asked.count("reasons") == 1


@pytest.mark.parametrize("driver", [Driver, OldDriver])
def test_a_clock_that_is_held_down_now_is_throttled(driver):
    asked = driver(reasons=0)
    record = gpu.Record(gauge=gpu.gauge(torch_with(), asked)[0])
    assert not record.look()
    asked.values["reasons"] = 0x1 | 0x4 | 0x40  # idle is no fault; power cap, heat
    assert record.look()
    asked.values["reasons"] = 0x1
    assert not record.look()
    assert record.note() == "throttled (heat, its power limit)"


def test_a_clock_that_was_held_down_between_two_looks_is_throttled():
    driver = Driver(reasons=0, violations={0: 5_000, 1: 0})
    record = gpu.Record(gauge=gpu.gauge(torch_with(), driver)[0])
    assert not record.look()
    driver.values["violations"] = {0: 9_000, 1: 0}
    assert record.look()
    assert not record.look()
    assert record.note() == "throttled (its power limit)"


def test_the_header_has_what_decides_how_fast_a_gpu_is():
    driver = Driver(limit=700_000, heat=35, mig=[0, 0], ecc=[1, 1], persistence=1)
    facts = gpu.describe(gpu.gauge(torch_with(), driver)[0])
    assert facts == {
        "driver": "580.1",
        "driver_cuda": "13.0",
        "power_limit": 700.0,
        "power_limit_default": 700.0,
        "sm_clock_most": 1980,
        "memory_clock_most": 3201,
        "sm_clock": 1980,
        "memory_clock": 3201,
        "temperature": 35,
        "mig": False,
        "ecc": True,
        "persistence": True,
    }


def test_runs_of_different_gpus_differ_and_clocks_do_not_matter():
    h200 = {"devices": [{"name": "H200"}], "gpu": {"sm_clock": 345}}
    assert machine.differences(h200, {**h200, "gpu": {"sm_clock": 1980}}) == []
    (found,) = machine.differences(h200, {**h200, "devices": [{"name": "H100"}]})
    assert found.startswith("devices: ")


def row(process, notes, signals=None):
    return Result(
        case="a/b[]",
        workload="a/b",
        params={},
        contender="x",
        baseline="x",
        process=process,
        status="ok",
        samples=(1e-3, 1e-3),
        notes=notes,
        signals=signals or {},
    )


def test_throttling_in_one_process_is_told_and_explained():
    results = tuple(row(p, ("throttled (heat)",) if p == 3 else ()) for p in range(5))
    measured = Run(id="r", header={"settings": {}}, results=results)
    (found,) = summarise(measured)
    assert found.notes == ("throttled (heat)",)
    assert any("held its clock down" in line for line in legend.closing(measured, [found]))


def test_the_hosts_part_stands_beside_the_devices():
    from benchbench.reports.sheet import document

    measured = Run(
        id="r",
        header={"settings": {"cache": "cold"}},
        results=tuple(row(p, (), {"host": 8e-6}) for p in range(5)),
        complete=True,
    )
    content = document(measured)
    assert "host" in content.sheets[0].columns
    assert content.sheets[0].groups[0].lines[0].cells["host"].startswith("8")
    assert any(line.startswith("host: ") for line in content.closing)
    assert any(line.startswith("cold: ") for line in content.closing)
