"""Harm to one rank, or to mpirun, ends the whole job: non-zero, within the timeout, leaving no process behind; and
the flight records name rank and position.

usage: fault_test.py PROGRAM MPIRUN RANKS [WRAPPER ...]; with a WRAPPER, two ranks and device tensors: these words start each rank.
Ends only processes that it started itself, by process id."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

TIMEOUT_S, GRACE_S = 2.0, 2.0
GPU_TIMEOUT_S, GPU_GRACE_S = 20.0, 10.0  # connecting NCCL has to fit in the first
EMULATED_TIMEOUT_S = 6.0  # where nothing is to be connected
EIGHT = 8  # fpdist::ExitCode::kPeer
# fault: (exit code or None for any but 0, words that the output must hold, position in the flight records or None
# where no rank lives to write one)
FAULTS = {
    "kill": (None, [], None),
    "stop": (EIGHT, ["on axis", "at step 5, ", "no answer from world rank 2"], "step 5, "),
    "throw": (3, ["rows.jsonl:3:7"], "step 5, "),
    "exit": (None, [], None),
    # The two that meet first say it; a slow rank may still be in the exchange before it.
    "other": (EIGHT, ["all_reduce", "barrier", "axis world", "world rank 2", "at step 5, sum"], "step 5, "),
    "leave": (EIGHT, ["on axis", "at step 6, ", "no answer from world rank 2"], "step 6, "),
    "mpirun": (None, [], None),
}


def records_of(folder, position):
    """Complaints about the flight records."""
    files = sorted(folder.glob("flight_*.json"))
    complaints = [] if files else ["no rank wrote a flight record"]
    for file in files:
        record = json.loads(file.read_text())
        if record["rank"] != int(file.stem.split("_")[1]) or not record["position"].startswith(position):
            complaints.append(f"{file.name}: rank {record['rank']} at {record['position']!r}, expected {position!r}")
        calls = record["calls"]
        if not 10 <= len(calls) <= 64 or {"group", "all_reduce"} - {call["collective"] for call in calls}:
            complaints.append(f"{file.name}: {len(calls)} calls")
        if all(call["state"] == "done" for call in calls):
            complaints.append(f"{file.name}: every call is done")
        if any(calls[i]["seconds"] > calls[i + 1]["seconds"] for i in range(len(calls) - 1)):
            complaints.append(f"{file.name}: calls out of order")
        if record["rank"] in {peer for call in calls for peer in call["peers"]}:
            complaints.append(f"{file.name}: a rank is its own peer")
    return complaints


def is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_for(condition, seconds):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


# Device tensors travel in stream order: who waits, and in which call, is the watchdog's to say.
GPU_FAULTS = {
    "kill": (None, [], None),
    "stop": (EIGHT, ["not done within"], None),
    "throw": (3, ["rows.jsonl:3:7"], None),
}


def provoke(fault, program, mpirun, ranks, folder, wrapper=()):
    """Returns a list of complaints."""
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                       OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_pml="ob1")
    timeout, grace = (GPU_TIMEOUT_S, GPU_GRACE_S) if wrapper else (TIMEOUT_S, GRACE_S)
    if any("emulated_gpu" in word for word in wrapper):
        timeout = EMULATED_TIMEOUT_S
    command = [mpirun, "-np", str(ranks), *wrapper, program, fault, str(folder), str(int(timeout * 1000))] + ["cuda"] * bool(wrapper)
    with open(folder / "output", "w+") as output:
        job = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment)
        pids = []
        try:
            if not wait_for(lambda: (folder / "fault").exists() or job.poll() is not None, 60) or not (folder / "fault").exists():
                return ["the fault never came", "output:", (folder / "output").read_text(errors="replace")]
            happened = (folder / "fault").stat().st_mtime
            pids = [int((folder / f"pid_{rank}").read_text()) for rank in range(ranks)]
            if fault == "mpirun":
                happened = time.time()
                job.kill()
            limit = happened + timeout + grace - time.time()
            all_gone = wait_for(lambda: job.poll() is not None and not any(map(is_running, pids)), limit)
            took = time.time() - happened
            left = [pid for pid in pids if is_running(pid)]
        finally:
            for pid in [job.pid] + pids:
                if pid != job.pid and is_running(pid) or pid == job.pid and job.poll() is None:
                    os.kill(pid, signal.SIGKILL)
            code = job.wait()
        output.seek(0)
        words = output.read()
    complaints = []
    expected, parts, position = (GPU_FAULTS if wrapper else FAULTS)[fault]
    if not all_gone:
        complaints.append(f"not over after {took:.1f} s; ranks still running: {left}")
    # Open MPI 4.1's mpirun now and then crashes after everything is over, in its own clean-up: no code of ours then.
    launcher_crashed = code == -signal.SIGSEGV and "PMIx_server_finalize" in words
    if code == 0 or expected is not None and code != expected and not launcher_crashed:
        complaints.append(f"exit code {code}, expected {'any but 0' if expected is None else expected}")
    complaints += [f"the output does not hold {part!r}" for part in parts if part not in words]
    if position is not None:
        complaints += records_of(folder, position)
    print(f"{fault}: exit code {code} after {took:.2f} s", flush=True)
    return complaints and complaints + ["output:", words]


def main():
    program, mpirun, ranks = sys.argv[1:4]
    wrapper = sys.argv[4:]
    failed = False
    for fault in GPU_FAULTS if wrapper else FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            complaints = provoke(fault, program, mpirun, int(ranks), pathlib.Path(folder), wrapper)
        for complaint in complaints:
            print(f"FAILED {fault}: {complaint}")
        failed = failed or bool(complaints)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
