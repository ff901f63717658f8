"""What the doctor says of GPUs, asked through a library that answers as NVML does."""

from __future__ import annotations

from doctor_machines import says

from benchbench.doctor.nvml import graphics
from benchbench.doctor.place import Machine
from benchbench.files import Files


class Nvml:
    """As much of ``pynvml`` as the doctor asks for; what is missing is not supported."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus):
        self.gpus = gpus
        self.open = 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.gpus[index]

    def _ask(self, handle, name):
        if name not in handle:
            raise self.NVMLError("Not Supported")
        return handle[name]

    def nvmlDeviceGetName(self, handle):
        return b"NVIDIA H100"

    def nvmlDeviceGetClockInfo(self, handle, kind):
        assert kind == 1
        return self._ask(handle, "clock")

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        assert kind == 1
        return self._ask(handle, "highest")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        raise self.NVMLError("Function Not Found")  # an old driver

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self._ask(handle, "reasons")

    def nvmlDeviceGetPowerManagementLimit(self, handle):
        return self._ask(handle, "limit")

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle):
        return self._ask(handle, "default")

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return self._ask(handle, "heat")

    def nvmlDeviceGetTemperatureThreshold(self, handle, threshold):
        assert threshold == 1
        return self._ask(handle, "slows_at")

    def nvmlDeviceGetPersistenceMode(self, handle):
        return self._ask(handle, "persistent")

    def nvmlDeviceGetMigMode(self, handle):
        return self._ask(handle, "mig")

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [type("Process", (), {"pid": pid}) for pid in self._ask(handle, "pids")]


STILL = {
    "clock": 1410, "highest": 1980, "reasons": 0x2, "limit": 700000, "default": 700000,
    "heat": 40, "slows_at": 87, "persistent": 1, "mig": [0, 0], "pids": [],
}  # fmt: skip


def with_gpus(tmp_path, *gpus):
    nvml = Nvml(*gpus)
    machine = Machine(files=Files(tmp_path), graphics=graphics(Files(tmp_path), nvml))
    assert nvml.open == 0
    return {name: one for name, one in says(machine).items() if name.startswith("gpu")}


def test_a_quiet_gpu_server_is_good(tmp_path):
    found = with_gpus(tmp_path, STILL, STILL)
    assert {one.status for one in found.values()} == {"good"}
    assert found["gpu"].read == "2 x NVIDIA H100"
    assert found["gpu clocks"].read == "1410 MHz of 1980 MHz, held"


def test_a_loud_gpu_server(tmp_path):
    loud = STILL | {
        "clock": 1980, "reasons": 0x4 | 0x20 | 0x40, "limit": 500000, "heat": 85,
        "persistent": 0, "mig": [1, 1], "pids": [77, 12],
    }  # fmt: skip
    found = with_gpus(tmp_path, STILL, loud)
    assert {name for name, one in found.items() if one.status == "noisy"} == set(found) - {"gpu"}
    assert found["gpu clocks"].command == "sudo nvidia-smi -i 1 -lgc 1485"
    assert found["gpu slowed by"].read == "GPU 0: nothing; GPU 1: slowed by its power limit, heat"
    assert found["gpu power"].command == "sudo nvidia-smi -i 1 -pl 700"
    assert found["gpu persistence"].command == "sudo nvidia-smi -i 1 -pm 1"
    assert found["gpu instances"].command == "sudo nvidia-smi -i 1 -mig 0"
    assert found["gpu neighbours"].read == "GPU 0: nobody; GPU 1: processes 12, 77"
    assert found["gpu neighbours"].command.endswith("CUDA_VISIBLE_DEVICES=0 benchbench run")


def test_an_idle_gpu_does_not_tell_whether_its_clock_is_locked(tmp_path):
    found = with_gpus(tmp_path, STILL | {"clock": 345, "reasons": 0x1})
    assert found["gpu clocks"].status == "unknown"
    assert found["gpu clocks"].command == "sudo nvidia-smi -i 0 -lgc 1485"
    working = with_gpus(tmp_path, STILL | {"clock": 1485, "reasons": 0x0})
    assert working["gpu clocks"].status == "good"


def test_a_gpu_that_answers_nothing_is_unknown_but_for_its_being_there(tmp_path):
    found = with_gpus(tmp_path, {})
    assert {one.status for name, one in found.items() if name != "gpu"} == {"unknown", "good"}
    assert {name for name, one in found.items() if one.status == "good"} == {"gpu", "gpu instances"}
    assert all(one.mend for one in found.values() if one.status == "unknown")


def test_gpus_that_cannot_be_asked_are_one_line(tmp_path):
    class Broken(Nvml):
        def nvmlInit(self):
            raise self.NVMLError("Driver/library version mismatch")

    assert with_no_answer(tmp_path, None)["gpu"].status == "good"
    assert with_no_answer(tmp_path, Broken())["gpu"].status == "good"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    missing = with_no_answer(tmp_path, None)
    assert missing["gpu"].status == "unknown"
    assert missing["gpu"].command == "pip install nvidia-ml-py"
    broken = with_no_answer(tmp_path, Broken())
    assert "version mismatch" in broken["gpu"].read
    assert broken["gpu"].mend.startswith("Cannot be mended here: ")


def with_no_answer(tmp_path, nvml):
    machine = Machine(files=Files(tmp_path), graphics=graphics(Files(tmp_path), nvml))
    found = {name: one for name, one in says(machine).items() if name.startswith("gpu")}
    assert set(found) == {"gpu"}
    return found
