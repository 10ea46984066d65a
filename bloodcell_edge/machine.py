"""The machine that a figure was measured on: what it is, how warm, how busy, whether it was slowed down.

Standard library only. What a machine does not tell is None; nothing here raises. Formats of /proc: man proc(5); of
/sys: Documentation/ABI/testing in the Linux kernel. 1 MB is 10^6 bytes.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FEATURES = frozenset({
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_fp16", "amx_int8",  # x86
    "neon", "asimd", "asimdhp", "asimddp", "i8mm", "sve",  # ARM; asimddp is the int8 dot product
})  # fmt: skip
"""Instruction sets that the kernels of TFLite choose by, as /proc/cpuinfo names them."""

_ARM_PARTS = {
    "0xb76": "ARM1176",
    "0xc07": "Cortex-A7",
    "0xd03": "Cortex-A53",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
}
"""Processors of the Raspberry Pis; ARM's part numbers, from the Main ID Register in their reference manuals."""

_FAULTS = ("under-voltage", "clock capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of get_throttled: now; bits 16 to 19: since it was started (Raspberry Pi documentation, vcgencmd)."""

_ROOT = Path("/")
_VCGENCMD_SECONDS = 2.0


def describe(root: Path = _ROOT) -> dict[str, Any]:
    """Everything about the machine that a latency depends on, as plain JSON values.

    Args:
        root: where proc, sys and etc are.

    Returns:
        board, cpu, features, architecture, python_bits, cores, cores_usable (by this process), clock_mhz (of the
        fastest core, now), governor, temperature_c (of the hottest zone), throttled (names; [] where all is well),
        memory_mb, load (runnable tasks, means of 1, 5 and 15 minutes), os, kernel, python. None for what is not known.
    """
    cpu = _cpuinfo(root)
    bits = throttled_bits()
    return {
        "board": _read(root / "proc/device-tree/model") or None,
        "cpu": _cpu_name(cpu),
        "features": sorted(FEATURES & set(cpu.get("flags", cpu.get("features", "")).split())),
        "architecture": platform.machine() or None,
        "python_bits": 64 if sys.maxsize > 2**32 else 32,
        "cores": os.cpu_count(),
        "cores_usable": len(usable_cores()),
        "clock_mhz": _clock_mhz(root, cpu),
        "governor": _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        "temperature_c": _temperature_c(root),
        "throttled": None if bits is None else list(faults(bits)),
        "memory_mb": _kibibytes(root / "proc/meminfo", "MemTotal"),
        "load": _load(),
        "os": _os_name(root),
        "kernel": f"{platform.system()} {platform.release()}".strip() or None,
        "python": platform.python_version(),
    }


def usable_cores() -> frozenset[int]:
    """Numbers of the cores that this process may run on."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        return frozenset(range(os.cpu_count() or 1))


def throttled_bits() -> int | None:
    """What ``vcgencmd get_throttled`` answers on a Raspberry Pi; None elsewhere."""
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        answer = subprocess.run(
            [command, "get_throttled"], capture_output=True, text=True, timeout=_VCGENCMD_SECONDS, check=True
        ).stdout
        return int(answer.strip().removeprefix("throttled="), 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def faults(bits: int) -> tuple[str, ...]:
    """The set bits of get_throttled in words."""
    now = [f"{name} now" for bit, name in enumerate(_FAULTS) if bits >> bit & 1]
    earlier = [f"{name} since start" for bit, name in enumerate(_FAULTS) if bits >> (bit + 16) & 1]
    return (*now, *earlier)


def faults_between(before: int | None, after: int | None) -> tuple[str, ...]:
    """What slowed the machine down between two answers of `throttled_bits`.

    A bit "since start" that was set before cannot tell whether it happened again: only "now" bits count then.
    """
    if before is None or after is None:
        return ()
    slowed = (before | after) & 0xF | (after & ~before) >> 16 & 0xF
    return tuple(name for bit, name in enumerate(_FAULTS) if slowed >> bit & 1)


@dataclass(frozen=True)
class Usage:
    """Time spent so far, in seconds.

    Attributes:
        wall: on the clock.
        busy: by all work on the cores that this process may use, their sum; None where it is not known.
        own: by this process on any core.
    """

    wall: float
    busy: float | None
    own: float


def usage(root: Path = _ROOT) -> Usage:
    """Read the clocks that `other_work` compares."""
    return Usage(time.monotonic(), _busy_seconds(root), time.process_time())


def other_work(before: Usage, after: Usage) -> float | None:
    """Cores that other programs kept busy, on average between two readings; None where it is not known.

    Counts only cores that this process may use, and time that a hypervisor took away. Good to about
    0.01 s x cores / duration, since the kernel counts in ticks.
    """
    if before.busy is None or after.busy is None:
        return None
    wall, busy, own = after.wall - before.wall, after.busy - before.busy, after.own - before.own
    if wall <= 0 or busy <= 0:  # a sandbox that shows a /proc/stat which stands still
        return None
    return max(busy - own, 0.0) / wall


def peak_memory_mb() -> float | None:
    """The most physical memory this process has held since its program began, in MB.

    On Linux from VmHWM, not ``ru_maxrss``: that one also remembers the parent's memory from before exec. Elsewhere
    from ``ru_maxrss``, which macOS gives in bytes and others in KiB (man getrusage).
    """
    peak = _kibibytes(_ROOT / "proc/self/status", "VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:  # not POSIX
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 1e6


def memory_mb() -> float | None:
    """The physical memory that this process holds now, in MB; None where the system does not tell (not Linux)."""
    return _kibibytes(_ROOT / "proc/self/status", "VmRSS")


def _read(path: Path) -> str:
    """Text of a small file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _numbers(paths: Iterator[Path]) -> list[int]:
    return [int(text) for text in map(_read, paths) if re.fullmatch(r"-?\d+", text)]


def _cpuinfo(root: Path) -> dict[str, str]:
    """Fields of /proc/cpuinfo, names in lower case; of several cores the first counts."""
    fields: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def _cpu_name(cpu: dict[str, str]) -> str | None:
    part = cpu.get("cpu part", "")
    if part:  # ARM: "model name" is absent or says no more than ARMv7
        made_by_arm = cpu.get("cpu implementer") == "0x41"
        return _ARM_PARTS.get(part.lower() if made_by_arm else "", f"ARM {cpu.get('cpu implementer', '')} part {part}")
    return cpu.get("model name") or platform.processor() or None


def _clock_mhz(root: Path, cpu: dict[str, str]) -> float | None:
    kilohertz = _numbers((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    if kilohertz:
        return max(kilohertz) / 1e3
    try:
        return float(cpu["cpu mhz"])
    except (KeyError, ValueError):
        return None


def _temperature_c(root: Path) -> float | None:
    millidegrees = _numbers((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    return max(millidegrees) / 1e3 if millidegrees else None


def _kibibytes(path: Path, name: str) -> float | None:
    """A ``Name:  123 kB`` line of /proc, in MB; the kernel's kB is 1024 bytes."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", _read(path), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else None


def _load() -> list[float] | None:
    try:
        return list(os.getloadavg())
    except (AttributeError, OSError):
        return None


def _os_name(root: Path) -> str | None:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read(root / "etc/os-release"), re.MULTILINE)
    return found[1] if found else platform.system() or None


def _busy_seconds(root: Path) -> float | None:
    """Seconds that the usable cores were not idle: user, nice, system, irq, softirq, steal; not idle, iowait."""
    rows = re.findall(r"^cpu(\d+) (.*)$", _read(root / "proc/stat"), re.MULTILINE)
    counts = [[int(ticks) for ticks in row.split()[:8]] for core, row in rows if int(core) in usable_cores()]
    if not counts:
        return None
    return sum(sum(row) - sum(row[3:5]) for row in counts) / os.sysconf("SC_CLK_TCK")
