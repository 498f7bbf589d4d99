#!/usr/bin/env python3
"""Eight ranks on two nodes do the same to the last bit as on one, and 32 on sixteen. The nodes are made up (fake_rsh.sh): one
machine, daemons of mpirun with host names of their own, TCP between them.
Usage: nodes_test.py BIN_DIR MPIRUN [unittest arguments]
Exit code 77: this machine does not let a process have a host name of its own."""
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import FAKE_RSH, TWO_NODES, Folder, command, main, mesh, nodes, run, steps_without_times

RANKS, SKIPPED = 8, 77
IN_TURN = (*TWO_NODES, "--map-by", "node")  # even ranks on one node, odd ones on the other


def can_name_hosts():
    done = subprocess.run([FAKE_RSH, "nodea", "hostname"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() == "nodea"


class Lines(unittest.TestCase):
    def lines_of(self, line, ranks):
        """By rank: its bits, host, local rank and number of local ranks."""
        code, output = run(line)
        self.assertEqual(code, 0, output)
        found = re.findall(r"^rank (\d+) bits (\w+) host (\S+) local (\d+) of (\d+)$", output, re.MULTILINE)
        lines = {int(rank): (bits, host, int(local), int(size)) for rank, bits, host, local, size in found}
        self.assertEqual(sorted(lines), list(range(ranks)), output)
        return [lines[rank] for rank in range(ranks)]


class Messages(Lines):
    def ranks(self, launcher):
        return self.lines_of(command(RANKS, [], launcher, program="mesh_bits_program"), RANKS)

    def test_the_bits_are_those_of_one_node(self):
        one = self.ranks(())
        self.assertEqual([line[2:] for line in one], [(rank, RANKS) for rank in range(RANKS)])
        self.assertEqual(len({line[0] for line in one}), RANKS, "ranks end with different messages")
        by_block = self.ranks(TWO_NODES)  # pp, cp and tp inside a node, dp across
        self.assertEqual([line[1:] for line in by_block],
                         [("nodea" if rank < 4 else "nodeb", rank % 4, 4) for rank in range(RANKS)])
        in_turn = self.ranks(IN_TURN)  # cp across nodes, dp and pp inside
        self.assertEqual([line[1:] for line in in_turn],
                         [(("nodea", "nodeb")[rank % 2], rank // 2, 4) for rank in range(RANKS)])
        for other in (by_block, in_turn):
            self.assertEqual([line[0] for line in other], [line[0] for line in one])


class Sixteen(Lines):
    def test_sixteen_nodes_of_two_have_the_bits_of_threads(self):
        names = [f"node{number}" for number in range(16)]
        far = self.lines_of(command(32, [], nodes(names, 2), program="mesh_bits_program"), 32)
        self.assertEqual([line[1:] for line in far], [(names[rank // 2], rank % 2, 2) for rank in range(32)])
        near = self.lines_of(command(0, [32], program="mesh_bits_program"), 32)
        self.assertEqual([line[0] for line in far], [line[0] for line in near])


class Training(Folder):
    def check(self, degrees, launchers):
        data, _ = self.pairs(16)
        one, *others = [self.dir / f"out{i}" for i in range(1 + len(launchers))]
        for out, launcher in zip((one, *others), ((), *launchers)):
            config = self.config(data, output_dir=out, groups_per_step=8, max_steps=2)
            self.train(RANKS, config, *mesh(**degrees), launcher=launcher)
        for out in others:
            self.assertEqual(steps_without_times(out), steps_without_times(one))
            self.assertEqual((out / "final/model.safetensors").read_bytes(),
                             (one / "final/model.safetensors").read_bytes())

    def test_dp2_tp2_cp2(self):
        self.check(dict(dp=2, cp=2, tp=2), [TWO_NODES, IN_TURN])  # dp across nodes; tp across nodes

    def test_pp2_tp2_dp2(self):
        self.check(dict(dp=2, pp=2, tp=2), [TWO_NODES])


if __name__ == "__main__":
    if not can_name_hosts():
        print("SKIPPED: unshare --uts is not allowed here, so there are no made-up nodes")
        sys.exit(SKIPPED)
    main()
