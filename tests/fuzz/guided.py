"""The readers of files under atheris, which keeps the bytes that reach new lines and changes those further.

    pip install atheris
    python tests/fuzz/guided.py [-runs=10000] [READER ...]

``make fuzz`` runs it after hypothesis where atheris is installed, which is no requirement: there are wheels for Linux
alone. Each reader runs in a process of its own, because libFuzzer ends the process; it begins with the whole files of
``fuzz_targets``. What fails is printed with its traceback, and its bytes stay in ``out/fuzz``.
"""

import importlib.util
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

READERS = ("image", "image folder", "archive", "weights", "ledger")
LIMITS = ("-timeout=10", "-max_len=20000", "-print_final_stats=1", "-verbosity=0")
MEMORY = 2048  # MB more than the process holds when it begins


def begin(reader: str, files: dict[str, bytes], folder: Path) -> None:
    """The whole files, as inputs to begin with: the first byte says which file it is."""
    for number, name in enumerate(sorted(files)):
        (folder / f"{reader}-{number}").write_bytes(bytes([number]) + files[name])


def one(reader: str, options: list[str]) -> None:
    """Fuzz one reader; this process ends with it."""
    import atheris

    with atheris.instrument_imports(include=["kdlab", "PIL"]):
        import fuzz_targets

        from kdlab.errors import SpecError

    ledger = {"ledger": lambda: {"given.csv.xz": fuzz_targets.csv_xz(fuzz_targets.cells())}}
    files = (fuzz_targets.FILES | ledger)[reader]()
    names, (_, act) = sorted(files), fuzz_targets.TARGETS[reader]
    kept = Path("out", "fuzz").absolute()
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as room, tempfile.TemporaryDirectory() as known:
        begin(reader, files, Path(known))

        def read(given: bytes) -> None:
            content = given[1:]
            value = content if reader == "ledger" else (names[given[0] % len(names)] if given else names[0], content)
            try:
                act(value, Path(room))
            except SpecError as error:
                assert str(error).strip() and "Traceback" not in str(error)

        taken = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
        atheris.Setup(
            [sys.argv[0], *LIMITS, f"-rss_limit_mb={MEMORY + taken}", f"-artifact_prefix={kept}/", *options, known],
            read,
        )
        atheris.Fuzz()


def main(words: list[str]) -> int:
    """Fuzz each reader in a process of its own: 0 where nothing failed."""
    options = [word for word in words if word.startswith("-")]
    names = [word for word in words if not word.startswith("-")] or READERS
    if importlib.util.find_spec("atheris") is None:
        print("readers of files are not fuzzed by what they reach: atheris is not installed (pip install atheris)")
        return 0
    failed = []
    for name in names:
        told = subprocess.run([sys.executable, __file__, "--one", name, *options], stderr=subprocess.PIPE, text=True)
        cases = [line.split()[-1] for line in told.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{name}: {' '.join(cases) or 'no'} cases, guided", flush=True)
        if told.returncode:
            failed.append(name)
            print(told.stderr)
    return len(failed) and 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(sys.argv[1:]))
