#!/usr/bin/env python3
"""The launchers: what they start, and with what. No cluster is needed: srun and mpirun are stand-ins that write their
arguments and settings down. Usage: launch_files_test.py BIN_DIR MPIRUN [unittest arguments]
Exit code 77: this Python cannot read YAML (Debian: python3-yaml)."""
import copy
import json
import pathlib
import signal
import subprocess
import sys

try:
    import yaml
except ImportError:
    yaml = None

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from schema import breaches
from support import ROOT, Folder, main, wait_until

LAUNCH, SKIPPED = ROOT / "launch", 77
STAND_IN = """#!/bin/sh
printf '%s\\n' "$0" "$@" >"$STAND_IN_FILE"
env | sort >"$STAND_IN_FILE.env"
exit "${STAND_IN_CODE:-0}"
"""
# Ends with the first code of a list that is left; where that is "wait", when it is told to stop, with 75.
RUN = """#!/bin/sh
echo "$*" >>"$RUN_FOLDER/starts"
code=$(head -n 1 "$RUN_FOLDER/codes")
sed -i 1d "$RUN_FOLDER/codes"
[ "$code" = wait ] || exit "$code"
trap 'echo stop >>"$RUN_FOLDER/signals"; exit 75' USR1
trap 'echo end >>"$RUN_FOLDER/signals"; exit 130' INT
touch "$RUN_FOLDER/waits"
while :; do sleep 0.05; done
"""
RESUME = ["--train.resume_from_checkpoint", "auto"]


class Launchers(Folder):
    def start(self, script, *arguments, code=0, **settings):
        """Words of the command that the script ends in (program first), and its environment."""
        programs = self.dir / "programs"
        programs.mkdir(exist_ok=True)
        for name in ("srun", "mpirun", "scontrol"):
            (programs / name).write_text(STAND_IN if name != "scontrol" else '#!/bin/sh\necho "$@" >>"$STAND_IN_FILE.requeued"\n')
            (programs / name).chmod(0o755)
        env = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(self.dir), "STAND_IN_FILE": str(self.dir / "words"), **settings}
        done = subprocess.run(["bash", str(script), *map(str, arguments)], cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stdout)
        if code == 2:
            return done.stdout, {}
        words = (self.dir / "words").read_text().splitlines()
        lines = (self.dir / "words.env").read_text().splitlines()
        return [pathlib.Path(words[0]).name, *words[1:]], dict(line.split("=", 1) for line in lines if "=" in line)

    SLURM = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NUM_NODES": "4", "SLURM_NTASKS_PER_NODE": "8", "SLURM_CPUS_PER_TASK": "12"}

    def test_slurm_starts_a_rank_a_gpu_with_srun(self):
        words, env = self.start(LAUNCH / "slurm.sbatch", "my.yaml", "--parallel.tp", 8, **self.SLURM)
        self.assertEqual(words[0], "srun")
        self.assertEqual(words[-6:], ["build/release/bin/fpdist_train", "my.yaml", "--parallel.tp", "8", *RESUME])
        for option in ("--mpi=pmix", "--ntasks=32", "--gpu-bind=none", "--kill-on-bad-exit=1", "--distribution=block:block"):
            self.assertIn(option, words)
        self.assertEqual((env["OMP_NUM_THREADS"], env["NCCL_DEBUG"]), ("12", "WARN"))

    def test_slurm_starts_mpirun_where_it_is_told_to(self):
        words, _ = self.start(LAUNCH / "slurm.sbatch", "my.yaml", FPDIST_LAUNCHER="mpirun", FPDIST_BIN="/opt/fpdist",
                              FPDIST_INTERFACE="ib0", **self.SLURM)
        self.assertEqual(words[:5], ["mpirun", "-np", "32", "--map-by", "ppr:8:node"])
        self.assertEqual(words[-4:], ["/opt/fpdist/fpdist_train", "my.yaml", *RESUME])
        carried = [words[i + 1] for i, word in enumerate(words) if word == "-x"]
        self.assertLessEqual({"NCCL_SOCKET_IFNAME", "NCCL_IB_TIMEOUT", "OMP_NUM_THREADS"}, set(carried))

    def test_slurm_options_ask_for_what_the_script_uses(self):
        options = dict(line[len("#SBATCH --"):].split("=", 1) for line in (LAUNCH / "slurm.sbatch").read_text().splitlines()
                       if line.startswith("#SBATCH --") and "=" in line)
        self.assertEqual(options["ntasks-per-node"], options["gpus-per-node"])
        self.assertIn("%j", options["output"])
        self.assertIn("name a config", self.start(LAUNCH / "slurm.sbatch", code=2, **self.SLURM)[0])

    def test_slurm_tells_the_job_ahead_of_its_end_and_queues_it_again(self):
        text = (LAUNCH / "slurm.sbatch").read_text()
        self.assertIn("#SBATCH --requeue\n", text)
        self.assertIn("#SBATCH --signal=B:USR1@120\n", text)
        requeued = self.dir / "words.requeued"
        for code, restarts, queues in ((0, 0, False), (3, 0, False), (75, 0, True), (8, 19, True), (137, 20, False)):
            requeued.unlink(missing_ok=True)
            self.start(LAUNCH / "slurm.sbatch", "my.yaml", code=code, STAND_IN_CODE=str(code), SLURM_JOB_ID="17",
                       SLURM_RESTART_COUNT=str(restarts), **self.SLURM)
            self.assertEqual(requeued.read_text() if requeued.exists() else "", "requeue 17\n" if queues else "", (code, restarts))

    def test_slurm_hands_the_signal_on(self):
        run = self.write("srun", RUN)
        run.chmod(0o755)
        self.write("codes", "wait\n")
        env = {"PATH": f"{self.dir}:/usr/bin:/bin", "HOME": str(self.dir), "RUN_FOLDER": str(self.dir), "SLURM_JOB_ID": "1",
               "FPDIST_RESTARTS": "0", **self.SLURM}
        batch = subprocess.Popen(["bash", LAUNCH / "slurm.sbatch", "my.yaml"], cwd=ROOT, env=env, stdin=subprocess.DEVNULL)
        self.assertTrue(wait_until((self.dir / "waits").exists, 20))
        batch.send_signal(signal.SIGUSR1)
        self.assertEqual(batch.wait(20), 75)
        self.assertEqual((self.dir / "signals").read_text(), "stop\n")

    def test_mpirun_takes_every_slot_of_the_hostfile(self):
        words, _ = self.start(LAUNCH / "mpirun.sh", LAUNCH / "hostfile.example", "my.yaml", "--train.seed", 3)
        self.assertEqual(words[:5], ["mpirun", "-np", "16", "--hostfile", str(LAUNCH / "hostfile.example")])
        self.assertEqual(words[-4:], ["build/release/bin/fpdist_train", "my.yaml", "--train.seed", "3"])
        hosts = self.write("hosts", "# ours\na slots=2 # two\n\nb\nc max_slots=4 slots=3\n")
        self.assertEqual(self.start(LAUNCH / "mpirun.sh", hosts, "my.yaml")[0][2], "6")
        self.assertIn("no host", self.start(LAUNCH / "mpirun.sh", self.write("none", "#\n"), "my.yaml", code=2)[0])
        self.assertIn("there is no hostfile", self.start(LAUNCH / "mpirun.sh", "nowhere", "my.yaml", code=2)[0])
        self.assertIn("HOSTFILE", self.start(LAUNCH / "mpirun.sh", code=2)[0])

    def test_the_network_is_named_once_for_nccl_and_mpi(self):
        _, env = self.start(LAUNCH / "mpirun.sh", LAUNCH / "hostfile.example", "my.yaml", FPDIST_INTERFACE="bond0",
                            FPDIST_NICS="mlx5_0,mlx5_3", NCCL_DEBUG="INFO")
        self.assertEqual({env[name] for name in ("NCCL_SOCKET_IFNAME", "OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include")},
                         {"bond0"})
        self.assertEqual((env["NCCL_IB_HCA"], env["UCX_NET_DEVICES"]), ("=mlx5_0,mlx5_3", "mlx5_0:1,mlx5_3:1"))
        self.assertEqual(env["NCCL_DEBUG"], "INFO")  # what was set stays
        _, env = self.start(LAUNCH / "mpirun.sh", LAUNCH / "hostfile.example", "my.yaml")
        self.assertFalse({"NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "UCX_NET_DEVICES"} & set(env))

    def test_ranks_share_a_gpu_by_the_way_that_nccl_has(self):
        for version, there, away in ((23000, "NCCL_MULTI_RANK_GPU_ENABLE", "NCCL_HOSTID"), (22809, "NCCL_HOSTID", "NCCL_MULTI_RANK_GPU_ENABLE")):
            _, env = self.start(LAUNCH / "share_gpu.sh", "mpirun", FPDIST_NCCL_VERSION=str(version), OMPI_COMM_WORLD_RANK="1")
            self.assertIn(there, env)
            self.assertNotIn(away, env)
            self.assertEqual((env["NCCL_MAX_CTAS"], env["NCCL_NVLS_ENABLE"]), ("4", "0"))
            if there == "NCCL_HOSTID":
                self.assertEqual((env[there], env["NCCL_SOCKET_IFNAME"], env["NCCL_IB_DISABLE"]), ("rank1", "lo", "1"))


class UntilDone(Folder):
    """launch/until_done.sh around a stand-in for a run."""

    def start(self, codes, *arguments, **settings):
        run = self.write("run", RUN)
        run.chmod(0o755)
        self.write("codes", "".join(f"{code}\n" for code in codes))
        env = {"PATH": "/usr/bin:/bin", "RUN_FOLDER": str(self.dir), "FPDIST_WAIT": "0", **settings}
        process = subprocess.Popen(["bash", LAUNCH / "until_done.sh", run, *arguments], env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(process.stdout.close)
        return process

    def end(self, codes, *arguments, **settings):
        """Exit code, number of starts and output."""
        (self.dir / "starts").unlink(missing_ok=True)
        process = self.start(codes, *arguments, **settings)
        output, _ = process.communicate(timeout=60)
        return process.returncode, len(self.starts()), output

    def starts(self):
        return (self.dir / "starts").read_text().splitlines()

    def test_it_starts_again_until_the_run_is_done(self):
        self.assertEqual(self.end([8, 75, 137, 139, 0], "my.yaml")[:2], (0, 5))
        self.assertEqual(set(self.starts()), {"my.yaml " + " ".join(RESUME)})

    def test_an_error_that_stays_ends_it(self):
        for code in (2, 3, 4, 5, 6, 7):
            self.assertEqual(self.end([8, code, 0], "my.yaml")[:2], (code, 2))

    def test_it_gives_up_where_runs_end_at_once(self):
        code, starts, output = self.end([8] * 9, "my.yaml", FPDIST_TRIES="3")
        self.assertEqual((code, starts), (8, 3))
        self.assertIn("giving up", output)
        self.assertEqual(self.end([8] * 5 + [0], "my.yaml", FPDIST_TRIES="3", FPDIST_STEADY="0")[:2], (0, 6))  # each was long enough

    def test_it_waits_longer_each_time(self):
        output = self.end([8, 8, 8, 0], "my.yaml", FPDIST_WAIT="1")[2]
        self.assertIn("again in 1 seconds (1 of 20)", output)
        self.assertIn("again in 4 seconds (3 of 20)", output)

    def test_what_the_line_says_of_resuming_stays(self):
        self.end([0], "my.yaml", "--train.resume-from-checkpoint", "out/checkpoint-3")
        self.assertEqual(self.starts(), ["my.yaml --train.resume-from-checkpoint out/checkpoint-3"])

    def test_a_signal_stops_the_run_and_the_loop(self):
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            for name in ("waits", "signals"):
                (self.dir / name).unlink(missing_ok=True)
            process = self.start(["wait", 0], "my.yaml")
            self.assertTrue(wait_until((self.dir / "waits").exists, 20))
            process.send_signal(number)
            self.assertEqual(process.wait(20), 75)
            self.assertEqual((self.dir / "signals").read_text(), "stop\n")

    def test_a_command_is_asked_for(self):
        done = subprocess.run(["bash", LAUNCH / "until_done.sh"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("name a command", done.stdout)


class Kubernetes(Folder):
    def setUp(self):
        super().setUp()
        self.schema = json.loads((pathlib.Path(__file__).parent / "mpijob.schema.json").read_text())
        self.job = yaml.safe_load((LAUNCH / "mpijob.yaml").read_text())

    def check(self, job):
        return breaches(job, self.schema, self.schema["definitions"])

    def test_the_job_keeps_the_schema(self):
        self.assertEqual(self.check(self.job), [])

    def test_ranks_are_the_slots_of_the_workers(self):
        spec = self.job["spec"]
        worker = spec["mpiReplicaSpecs"]["Worker"]
        launcher = spec["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]
        ranks = int(launcher["args"][launcher["args"].index("-np") + 1])
        self.assertEqual(ranks, worker["replicas"] * spec["slotsPerWorker"])
        self.assertEqual(worker["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], spec["slotsPerWorker"])
        for replica in spec["mpiReplicaSpecs"].values():
            pod = replica["template"]["spec"]
            volumes = {volume["name"] for volume in pod["volumes"]}
            mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
            self.assertEqual(mounted, volumes)
        self.assertEqual(launcher["image"], worker["template"]["spec"]["containers"][0]["image"])

    def test_the_check_notices(self):
        def broken(change):
            job = copy.deepcopy(self.job)
            change(job)
            return "\n".join(self.check(job))
        self.assertIn("unknown name slotPerWorker", broken(lambda job: job["spec"].update(slotPerWorker=8)))
        self.assertIn("slotsPerWorker: '8' is no integer", broken(lambda job: job["spec"].update(slotsPerWorker="8")))
        self.assertIn("no Worker", broken(lambda job: job["spec"]["mpiReplicaSpecs"].pop("Worker")))
        self.assertIn("'running' is none of", broken(lambda job: job["spec"]["runPolicy"].update(cleanPodPolicy="running")))
        pod = lambda job: job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]
        self.assertIn("args[1]: 16 is no string", broken(lambda job: pod(job)["args"].__setitem__(1, 16)))
        self.assertIn("memory: '4 GB' does not match", broken(lambda job: pod(job)["resources"]["limits"].update(memory="4 GB")))


if __name__ == "__main__":
    if yaml is None and sys.argv[3:4] == ["Kubernetes"]:
        print("SKIPPED: this Python cannot read YAML; install python3-yaml")
        sys.exit(SKIPPED)
    main()
