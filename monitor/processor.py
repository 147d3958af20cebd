"""What this machine's processor needs told before NumPy is imported; called first of all by the package itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_VARIABLE = "NPY_DISABLE_CPU_FEATURES"
_ZEN_4 = ("AuthenticAMD", 25)


def settle() -> None:
    """Keep NumPy from sorting with AVX-512 on AMD's Zen 4, where that is six times slower than with AVX2.

    Its compress-store instruction is microcoded there: 36 ns a value instead of 6, and sorting is most of our work.
    Nothing happens on other processors, when the variable is set already, or when NumPy has been imported; child
    processes inherit it.  Only speed depends on it, no result does.
    """
    if _VARIABLE in os.environ or "numpy" in sys.modules or not sys.platform.startswith("linux"):
        return
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return
    if not is_slow(told):
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - a tenth of starting a short command

    try:
        release = tuple(int(part) for part in version("numpy").split(".")[:2])
    except (ValueError, PackageNotFoundError):
        return
    os.environ[_VARIABLE] = features(release)


def is_slow(cpuinfo: str) -> bool:
    """Whether the first processor of this ``/proc/cpuinfo`` is one whose AVX-512 sorts slowly."""
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    said = {name.strip(): value.strip() for name, _, value in pairs}
    vendor, family = said.get("vendor_id"), said.get("cpu family", "")
    return (vendor, family) == (_ZEN_4[0], str(_ZEN_4[1])) and "avx512f" in said.get("flags", "").split()


def features(release: tuple[int, ...]) -> str:
    """What to switch off, as a NumPy of this release calls it: an unknown name would be warned of."""
    return "X86_V4" if release >= (2, 4) else "AVX512F AVX512CD AVX512_SKX"
