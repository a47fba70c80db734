"""Times LiSeg and other tools in turn on the same files; prints a table of ratios.

Started by `cargo xtask bench --peers [--only TEXT]`. A ratio of 3 means that LiSeg takes a third of
the peer's time. Times are the best of a few repetitions; for whole augmentation lists, whose work is
random, the mean over the same number of samples.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

PACKAGES = ["MedPy", "monai", "surface-distance", "SimpleITK", "edt", "connected-components-3d",
            "scipy", "nibabel", "nnunetv2", "batchgeneratorsv2", "torchio", "torch"]


def ours(program, row, threads):
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    command = [program, row.task, str(row.repeat), *row.files]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def theirs(row, threads):
    call = row.load(row.files, threads)
    seconds = []
    if row.repeat > 1:
        call()  # caches and just-in-time compilation do not count; in long calls they do not matter
    for _ in range(row.repeat):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return sum(seconds) / len(seconds) if row.task == "nnunet" else min(seconds)


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(results):
    yield "| task | peer | threads | LiSeg | peer's time | ratio | target | met |"
    yield "|---|---|---|---|---|---|---|---|"
    for r in results:
        unit = r.get("unit", "s")
        yield (f"| {r['name']} | {r['peer']} | {r['threads']} | {r['ours']:.3g} {unit} | {r['theirs']:.3g} {unit} "
               f"| {r['ratio']:.1f} | {r['target']:g} | {'yes' if r['ratio'] >= r['target'] else 'no'} |")


def measure(row, threads, program):
    before = ours(program, row, threads)
    peer = theirs(row, threads)
    best = min(before, ours(program, row, threads))
    return dict(name=row.name, peer=row.peer, threads=threads, ours=best, theirs=peer,
                ratio=peer / best, target=row.target)


def programs(wanted):
    """The programs with torch that wanted rows need; to be built first, and to be named by an option each."""
    import networks
    import predict

    if any(wanted(name, networks.PEER) for name, *_ in networks.rows()):
        yield "network_speed"
    if any(wanted(name, predict.PEER) for name, *_ in predict.rows()):
        yield "liseg"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--program", type=os.path.abspath, help="LiSeg's side, benches/peers/ours.rs")
    arguments.add_argument("--network-speed", type=os.path.abspath, help="the program network_speed, for rows about networks")
    arguments.add_argument("--liseg", type=os.path.abspath, help="the command, for rows about prediction")
    arguments.add_argument("--out", type=pathlib.Path, help="folder for files and results")
    arguments.add_argument("--only", default="", help="rows whose task or peer contains this text")
    arguments.add_argument("--programs", action="store_true", help="print which programs with torch the rows need")
    chosen = arguments.parse_args()
    wanted = lambda name, peer: chosen.only.lower() in f"{name} {peer}".lower()
    if chosen.programs:
        print("\n".join(programs(wanted)))
        return
    if not (chosen.program and chosen.out):
        arguments.error("--program and --out are missing")

    # As many threads as asked for below, whatever a library takes by default.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "2")
    import inputs
    import networks
    import predict
    import preprocessing
    import rows

    inputs.make(chosen.out / "inputs", rows.initial_patch)
    results = []
    for row in rows.rows(chosen.out / "inputs", list(inputs.SIZES), inputs.PATCHES):
        if not wanted(row.name, row.peer):
            continue
        for threads in row.threads:
            print(f"{row.name}, {row.peer}, {threads} thread(s)", file=sys.stderr, flush=True)
            results.append(measure(row, threads, chosen.program))
    results += preprocessing.results(chosen.out, chosen.program, wanted)
    if chosen.network_speed:
        results += networks.results(chosen.network_speed, wanted)
    if chosen.liseg:
        results += predict.results(chosen.liseg, chosen.out.absolute() / "predict", wanted)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    facts = dict(processor=processor(), cores=os.cpu_count(), versions=versions)
    text = "\n".join(table(results))
    (chosen.out / "peers.json").write_text(json.dumps(dict(results=results, **facts), indent=1))
    (chosen.out / "peers.md").write_text(text + "\n")
    print(text)
    print(f"\n{facts['processor']}, {facts['cores']} cores; "
          + ", ".join(f"{name} {version}" for name, version in versions.items()))


if __name__ == "__main__":
    main()
