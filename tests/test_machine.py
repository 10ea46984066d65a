import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge import machine
from bloodcell_edge.machine import Usage

PI_4 = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd crc32\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
    "proc/meminfo": "MemTotal:        3884372 kB\nMemFree:         1000000 kB\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "1800000\n",
    "sys/class/thermal/thermal_zone0/temp": "61835\n",
    "etc/os-release": 'NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
}
X86 = {
    "proc/cpuinfo": "model name\t: Some CPU @ 2.60GHz\ncpu MHz\t: 2596.130\nflags\t: fpu avx2 avx512_vnni avx_vnni\n",
    "sys/class/thermal/thermal_zone0/temp": "-5000\n",
    "sys/class/thermal/thermal_zone1/temp": "none\n",
}


def rooted(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def vcgencmd(folder, monkeypatch, script):
    """Put a program called vcgencmd into an otherwise empty PATH."""
    program = folder / "vcgencmd"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_this_machine_is_described_in_json_values():
    """describe() here gives values that JSON takes, with the cores this process may use among those there are."""
    found = machine.describe()

    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert 1 <= found["cores_usable"] <= found["cores"]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_raspberry_pi_is_recognised(tmp_path):
    """Board, core, features, clock of the fastest core, governor and temperature come from /proc and /sys."""
    found = machine.describe(rooted(tmp_path, PI_4))

    assert found["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["cpu"] == "Cortex-A72"
    assert found["features"] == ["asimd"]
    assert found["clock_mhz"] == 1800.0
    assert found["governor"] == "ondemand"
    assert found["temperature_c"] == 61.835
    assert found["memory_mb"] == pytest.approx(3977.597, abs=0.001)
    assert found["os"] == "Debian GNU/Linux 12 (bookworm)"


def test_an_x86_machine_is_recognised(tmp_path):
    """Model name and int8 features come from cpuinfo, the clock too where cpufreq is absent; frost is no error."""
    found = machine.describe(rooted(tmp_path, X86))

    assert found["board"] is None
    assert found["cpu"] == "Some CPU @ 2.60GHz"
    assert found["features"] == ["avx2", "avx512_vnni", "avx_vnni"]
    assert found["clock_mhz"] == 2596.13
    assert found["governor"] is None
    assert found["temperature_c"] == -5.0


def test_an_arm_core_of_another_maker_keeps_its_numbers(tmp_path):
    """A part number means a core only together with ARM's own implementer number."""
    files = {"proc/cpuinfo": "CPU implementer\t: 0x51\nCPU part\t: 0xd08\n"}

    assert machine.describe(rooted(tmp_path, files))["cpu"] == "ARM 0x51 part 0xd08"


def test_a_machine_that_tells_nothing_is_described_all_the_same(tmp_path):
    """Without /proc and /sys what they would say is None, and nothing raises."""
    found = machine.describe(tmp_path)

    assert [found[key] for key in ("board", "clock_mhz", "governor", "temperature_c", "memory_mb")] == [None] * 5
    assert found["features"] == []


@given(st.binary(max_size=200))
def test_unreadable_system_files_do_not_raise(tmp_path_factory, content):
    """Any bytes in cpuinfo, stat, meminfo and temperature are survived."""
    root = tmp_path_factory.mktemp("root")
    for name in ("proc/cpuinfo", "proc/stat", "proc/meminfo", "sys/class/thermal/thermal_zone0/temp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    assert set(machine.describe(root)) == set(machine.describe())
    machine.usage(root)


@pytest.mark.parametrize(
    ("script", "bits"),
    [
        ("echo throttled=0x0", 0),
        ("echo throttled=0x50005", 0x50005),
        ("echo VCHI initialization failed", None),
        ("echo throttled=0x0; exit 255", None),
    ],
)
def test_get_throttled_is_read_or_none(tmp_path, monkeypatch, script, bits):
    """A vcgencmd that answers gives its bits; one that fails or talks otherwise gives None."""
    vcgencmd(tmp_path, monkeypatch, script)

    assert machine.throttled_bits() == bits
    assert machine.describe()["throttled"] == (None if bits is None else list(machine.faults(bits)))


def test_no_vcgencmd_is_none(tmp_path, monkeypatch):
    """On a machine without vcgencmd nobody knows of throttling."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert machine.throttled_bits() is None


def test_faults_are_named_now_and_since_start():
    """0x50005 is under-voltage and throttling, now and since the start; 0 is no fault."""
    assert machine.faults(0) == ()
    assert machine.faults(0x50005) == (
        "under-voltage now",
        "throttled now",
        "under-voltage since start",
        "throttled since start",
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0x0, 0x0, ()),
        (0x50000, 0x50000, ()),  # it happened earlier, and not since as far as can be known
        (0x0, 0x40000, ("throttled",)),  # it came and went in between
        (0x0, 0x40004, ("throttled",)),
        (0x50005, 0x50000, ("under-voltage", "throttled")),  # it was so when the run began
        (0x10000, 0x90000, ("soft temperature limit",)),
        (None, 0x4, ()),
    ],
)
def test_only_faults_of_the_run_count(before, after, expected):
    """A fault counts when it holds before or after, or its bit "since start" appeared in between."""
    assert machine.faults_between(before, after) == expected


def test_other_work_is_what_is_busy_without_us():
    """10 s of wall, 14 s busy, 9 s of them ours: half a core was somebody else's."""
    assert machine.other_work(Usage(100, 50, 3), Usage(110, 64, 12)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("after", "expected"),
    [(Usage(10, 5, 5.02), 0.0), (Usage(10, None, 5), None), (Usage(10, 0, 5), None), (Usage(0, 5, 5), None)],
)
def test_other_work_at_its_edges(after, expected):
    """Rounding of ticks does not go below 0; without a clock that moves nobody knows."""
    assert machine.other_work(Usage(0, 0, 0), after) == expected


def test_busy_time_counts_usable_cores_and_stolen_time_only(tmp_path):
    """Our cores' user, nice, system, irq, softirq and steal are busy; idle, iowait, guests, other cores are not."""
    core = min(machine.usable_cores())
    other = max(machine.usable_cores()) + 1
    ticks = "100 200 300 99999 88888 10 20 70 5555 4444"
    files = {"proc/stat": f"cpu  9 9 9 9 9 9 9 9 9 9\ncpu{core} {ticks}\ncpu{other} {ticks}\nintr 5\n"}
    per_second = int(subprocess.run(["getconf", "CLK_TCK"], capture_output=True, text=True, check=True).stdout)

    assert machine.usage(rooted(tmp_path, files)).busy == 700 / per_second


def test_work_of_another_process_is_seen():
    """A process that computes for 0.3 s beside us shows as at least 0.2 s of other work."""
    before = machine.usage()
    if before.busy is None:
        pytest.skip("no /proc/stat here")
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    after = machine.usage()

    assert machine.other_work(before, after) * (after.wall - before.wall) > 0.2


def test_peak_memory_does_not_remember_the_parent():
    """A small Python started by a process of over 300 MB does not report its parent's memory as its own."""
    ballast = np.ones(300_000_000, np.uint8)
    code = "from bloodcell_edge import machine; print(machine.peak_memory_mb())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert machine.peak_memory_mb() > ballast.nbytes / 1e6
    assert 1 < float(answer) < 100


def test_peak_memory_stays_after_it_is_freed():
    """The peak is the most ever held, not what is held now."""
    code = (
        "from bloodcell_edge.machine import peak_memory_mb as peak\n"
        "before = peak()\nballast = bytearray(b'x' * 50_000_000)\ndel ballast\nprint(peak() - before)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert float(answer) > 45


def test_memory_held_now_falls_when_it_is_freed():
    """memory_mb() grows by 50 MB that are held and falls when they are freed; it is never above the peak."""
    if machine.memory_mb() is None:
        pytest.skip("no /proc/self/status here")
    code = (
        "from bloodcell_edge.machine import memory_mb as held, peak_memory_mb as peak\n"
        "before = held()\nballast = bytearray(b'x' * 50_000_000)\nmost = held()\ndel ballast\n"
        "print(most - before, held() - before, held() <= peak())"
    )
    grown, left, below = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert float(grown) > 45
    assert float(left) < 10
    assert below == "True"


def test_only_the_standard_library_is_needed():
    """machine imports where numpy, OpenCV and click are not installed (python -S has no site-packages)."""
    package = Path(machine.__file__).parents[1]
    code = f"import sys; sys.path.append({str(package)!r}); from bloodcell_edge import machine; machine.describe()"

    subprocess.run([sys.executable, "-S", "-c", code], check=True)
