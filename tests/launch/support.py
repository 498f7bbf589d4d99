"""What the tests of the programs share: fpdist_train under mpirun, its files, small data, processes.

A test file is run as FILE BIN_DIR MPIRUN [unittest arguments]. Every child process is started here, waited for with a
limit, and ended by its own id.
"""
import array
import concurrent.futures
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "launch"))
from compare_runs import is_time  # noqa: E402  what depends on the clock is said once

BIN, MPIRUN = pathlib.Path(sys.argv[1]), sys.argv[2]
LIMIT = 240  # seconds that no run of these tests may take

# Made-up nodes on this machine: daemons of mpirun with host names of their own, TCP between them.
FAKE_RSH = pathlib.Path(__file__).resolve().parent / "fake_rsh.sh"


def nodes(names, each):
    """mpirun's options for so many ranks on each made-up node."""
    hosts = ",".join(f"{name}:{each}" for name in names)
    return ("--host", hosts, "--mca", "plm_rsh_agent", str(FAKE_RSH), "--mca", "btl_tcp_if_include", "lo", "--mca", "oob_tcp_if_include", "lo")


TWO_NODES = nodes(("nodea", "nodeb"), 4)


def environment():
    # ob1: what Open MPI takes on a machine by itself, after 0.2 s of looking for a cluster's network.
    env = dict(os.environ, OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_pml="ob1")
    if os.geteuid() == 0:
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return env


def command(ranks, arguments, launcher=(), program="fpdist_train"):
    """ranks 0: without mpirun; launcher: more of mpirun's options."""
    plain = [str(BIN / program), *map(str, arguments)]
    return [MPIRUN, "-np", str(ranks), *launcher, *plain] if ranks else plain


def run(line, **variables):
    """Exit code and output of a command line, with more environment variables."""
    done = subprocess.run(line, cwd=ROOT, env={**environment(), **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    return done.returncode, done.stdout


def train(ranks, *arguments, launcher=()):
    """Exit code and output of fpdist_train."""
    return run(command(ranks, arguments, launcher))


def mesh(**degrees):
    """mesh(dp=2, tp=2): the arguments of a mesh that is given in full."""
    return [word for axis in ("dp", "pp", "cp", "tp") for word in (f"--parallel.{axis}", degrees.get(axis, 1))]


def steps(output_dir):
    return [json.loads(line) for line in (pathlib.Path(output_dir) / "metrics.jsonl").read_text().splitlines()]


def steps_without_times(output_dir):
    """What two equal runs must have in common to the last bit."""
    return [{name: value for name, value in step.items() if not is_time(name)} for step in steps(output_dir)]


def read_weights(output_dir):
    """Name to (shape, values) of final/model.safetensors, which holds float32 here."""
    content = (pathlib.Path(output_dir) / "final/model.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    weights = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", f"{name} is {entry['dtype']}"
        begin, end = entry["data_offsets"]
        weights[name] = (entry["shape"], array.array("f", content[start + begin:start + end]))
    return weights


def process_state(pid):
    """(name, state, parent) of a process; None when there is none."""
    try:
        head, tail = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)
    except OSError:
        return None
    state, parent = tail.split()[:2]
    return head.split("(", 1)[1], state, int(parent)


def children_of(parent, name):
    """Ids of the processes called `name` that `parent` started."""
    pids = [int(folder.name) for folder in pathlib.Path("/proc").glob("[0-9]*")]
    states = {pid: process_state(pid) for pid in pids}
    return [pid for pid, state in states.items() if state and state[0] == name[:15] and state[2] == parent]


def is_running(pid):
    state = process_state(pid)
    return state is not None and state[1] not in "ZX"


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end_processes(pids):
    """Of a job that should have ended by itself."""
    for pid in pids:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


class Folder(unittest.TestCase):
    """A folder of its own for every test."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.dir = pathlib.Path(temporary.name)

    def write(self, name, text):
        (self.dir / name).write_text(text)
        return self.dir / name

    def pairs(self, count=8):
        rows = [{"prompt_ids": list(range(1, 20)), "chosen_ids": [30, 31 + i % 3], "rejected_ids": [30, 60 + i % 5, 61]}
                for i in range(count)]
        return self.write("pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows)), rows

    def config(self, data, **train_options):
        options = {"groups_per_step": 4, "max_steps": 3, "output_dir": self.dir / "out", "comm_timeout_seconds": 5,
                   **train_options}
        given = ", ".join(f"{name}: {value}" for name, value in options.items())
        return self.write("run.yaml", "method: dpo\nmodel: { preset: tiny }\n"
                          f"data: {{ path: [{data}] }}\ntrain: {{ {given} }}\noptim: {{ learning_rate: 1.0e-3 }}\n")

    def train(self, ranks, *arguments, launcher=()):
        """Output of a run that must succeed."""
        code, output = train(ranks, *arguments, launcher=launcher)
        self.assertEqual(code, 0, output)
        return output


def side_by_side(case, most):
    """Every test of `case`, whose tests wait most of the time, in a process of its own, `most` at once; the exit code."""
    def of(test):
        return subprocess.run([sys.executable, *sys.argv[:3], f"{case}.{test}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    names = unittest.TestLoader().getTestCaseNames(getattr(sys.modules["__main__"], case))
    with concurrent.futures.ThreadPoolExecutor(most) as pool:
        done = list(pool.map(of, names))
    for one in done:
        print(one.stdout, flush=True)
    return int(not done or any(one.returncode for one in done))


def main(waiting=()):
    """`waiting`: classes whose tests run side by side, when asked for by name."""
    if len(sys.argv) == 4 and sys.argv[3] in waiting:
        sys.exit(side_by_side(sys.argv[3], 4))
    unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
