"""Eight ranks on two nodes leave the same bits as on one. The nodes are made up (fake_rsh.sh): one machine, two daemons
of mpirun with host names of their own, TCP between them.

usage: two_nodes_test.py MESH_BITS_PROGRAM MPIRUN
Exit code 77: this machine does not let a process have a host name of its own."""
import os
import pathlib
import re
import subprocess
import sys
import unittest

RANKS, SKIPPED = 8, 77
FAKE_RSH = pathlib.Path(__file__).resolve().parent / "fake_rsh.sh"
NODES = ("--host", "nodea:4,nodeb:4", "--mca", "plm_rsh_agent", str(FAKE_RSH), "--mca", "btl_tcp_if_include", "lo",
         "--mca", "oob_tcp_if_include", "lo")
PROGRAM, MPIRUN = sys.argv[1], sys.argv[2]


def run(launcher, command, limit=100):
    """Exit code and output of `command` on eight ranks; `launcher`: more of mpirun's options."""
    env = dict(os.environ, OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_ALLOW_RUN_AS_ROOT="1",
               OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1")
    done = subprocess.run([MPIRUN, "-np", str(RANKS), *launcher, *map(str, command)], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit)
    return done.returncode, done.stdout


def can_name_hosts():
    done = subprocess.run([FAKE_RSH, "nodea", "hostname"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() == "nodea"


class TwoNodes(unittest.TestCase):
    def ranks(self, launcher):
        """By rank: its bits, host, local rank and number of local ranks."""
        code, output = run(launcher, [PROGRAM])
        self.assertEqual(code, 0, output)
        found = re.findall(r"^rank (\d+) bits (\w+) host (\S+) local (\d+) of (\d+)$", output, re.MULTILINE)
        lines = {int(rank): (bits, host, int(local), int(size)) for rank, bits, host, local, size in found}
        self.assertEqual(sorted(lines), list(range(RANKS)), output)
        return [lines[rank] for rank in range(RANKS)]

    def test_the_bits_are_those_of_one_node(self):
        one = self.ranks(())
        self.assertEqual([line[2:] for line in one], [(rank, RANKS) for rank in range(RANKS)])
        self.assertEqual(len({line[0] for line in one}), RANKS, "ranks end with different messages")
        by_block = self.ranks(NODES)  # pp, cp and tp inside a node, dp across
        self.assertEqual([line[1:] for line in by_block],
                         [("nodea" if rank < 4 else "nodeb", rank % 4, 4) for rank in range(RANKS)])
        in_turn = self.ranks((*NODES, "--map-by", "node"))  # cp across nodes, dp and pp inside
        self.assertEqual([line[1:] for line in in_turn],
                         [(("nodea", "nodeb")[rank % 2], rank // 2, 4) for rank in range(RANKS)])
        for other in (by_block, in_turn):
            self.assertEqual([line[0] for line in other], [line[0] for line in one])


if __name__ == "__main__":
    if not can_name_hosts():
        print("SKIPPED: unshare --uts is not allowed here, so there are no made-up nodes")
        sys.exit(SKIPPED)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
