#!/usr/bin/env python3
"""fpdist_export as a user meets it. Usage: export_program_test.py BIN_DIR MPIRUN [unittest arguments]"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tiny_model
from support import ROOT, Folder, command, main, mesh, run, steps_without_times, train


def files_of(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


class ExportFolder(Folder):
    def export(self, *arguments):
        code, text = run(command(0, arguments, program="fpdist_export"))
        self.assertEqual(code, 0, text)
        return text

    def refuse(self, expected, words, *arguments):
        code, text = run(command(0, arguments, program="fpdist_export"))
        self.assertEqual(code, expected, text)
        for word in words:
            self.assertIn(word, text)
        return text

    def checkpoint(self, ranks, *arguments):
        """A run of three steps and its checkpoint of the third: (output folder, checkpoint)."""
        data, _ = self.pairs()
        out = self.dir / "run"
        self.train(ranks, self.config(data, save_steps=3), "--train.output_dir", out, "--optim.lr_scheduler_type", "constant", *arguments)
        return out, out / "checkpoint-3"


class ExportModels(ExportFolder):
    def test_a_model_is_cut_anew_and_cast_and_comes_back(self):
        model = tiny_model.make(self.dir / "model")
        self.export(model, self.dir / "shards", "--max-shard-size", "20KB")
        index = json.loads((self.dir / "shards/model.safetensors.index.json").read_text())
        self.assertGreater(len(set(index["weight_map"].values())), 2)
        self.assertEqual((self.dir / "shards/tokenizer.json").read_bytes(), (model / "tokenizer.json").read_bytes())
        self.export(self.dir / "shards", self.dir / "again")
        self.export(model, self.dir / "direct")
        self.assertEqual(files_of(self.dir / "again"), files_of(self.dir / "direct"))
        self.export(model, self.dir / "half", "--dtype", "bfloat16")
        self.assertEqual(json.loads((self.dir / "half/config.json").read_text())["torch_dtype"], "bfloat16")
        self.export(self.dir / "half", self.dir / "half-again", "--dtype", "auto")
        self.assertEqual(files_of(self.dir / "half"), files_of(self.dir / "half-again"))
        self.export(self.dir / "half", self.dir / "wide", "--dtype", "float32")
        self.export(self.dir / "wide", self.dir / "half-back", "--dtype", "bfloat16")
        self.assertEqual(files_of(self.dir / "half"), files_of(self.dir / "half-back"))

    def test_a_mistake_is_said_and_nothing_is_touched(self):
        model = tiny_model.make(self.dir / "model")
        before = files_of(model)
        (self.dir / "full").mkdir()
        (self.dir / "full/mine.txt").write_text("mine")
        self.refuse(2, ["unrecognised option"], model, self.dir / "out", "--shard", "5GB")
        self.refuse(2, ["--max-shard-size 5 elephants", "5GB"], model, self.dir / "out", "--max-shard-size", "5 elephants")
        self.refuse(2, ["float16", "bfloat16"], model, self.dir / "out", "--dtype", "float16")
        self.refuse(2, ["an input and an output folder"], model)
        self.refuse(2, ["--to-checkpoint takes neither"], model, self.dir / "out", "--to-checkpoint", "--dtype", "float32")
        self.refuse(2, ["full", "not an empty folder"], model, self.dir / "full")
        self.refuse(2, ["not an empty folder"], model, model)
        (self.dir / "model").rename(self.dir / "model.tmp")
        self.refuse(2, ["would be written over", "another output folder"], self.dir / "model.tmp", self.dir / "model")
        self.refuse(4, ["not a directory"], self.dir / "nowhere", self.dir / "out")
        self.assertEqual(files_of(self.dir / "model.tmp"), before)
        self.assertEqual(sorted(path.name for path in self.dir.iterdir()), ["full", "model.tmp"])
        code, text = run(command(0, ["--help"], program="fpdist_export"))
        self.assertEqual(code, 0, text)
        self.assertIn("--to-checkpoint", text)


class ExportCheckpoints(ExportFolder):
    def expect_final(self, run_dir, checkpoint, *arguments):
        self.export(checkpoint, self.dir / "exported", *arguments)
        exported, final = files_of(self.dir / "exported"), files_of(run_dir / "final")
        self.assertEqual(sorted(exported), sorted(final))
        for name, content in final.items():
            self.assertEqual(exported[name], content, name)

    def test_float32_is_the_runs_own_export(self):
        self.expect_final(*self.checkpoint(4, *mesh(tp=2, pp=2)))

    def test_bfloat16_and_its_masters_are_the_runs_own_export(self):
        model = tiny_model.make(self.dir / "model")
        run_dir, checkpoint = self.checkpoint(2, "--model.path", model, "--model.preset", "", "--model.dtype", "bfloat16",
                                              "--train.final_dtype", "float32")
        self.expect_final(run_dir, checkpoint, "--dtype", "float32")
        self.export(checkpoint, self.dir / "half")
        self.export(run_dir / "final", self.dir / "half-of-final", "--dtype", "bfloat16")
        self.assertEqual(files_of(self.dir / "half"), files_of(self.dir / "half-of-final"))

    def test_a_reward_model_is_the_runs_own_export(self):
        self.expect_final(*self.checkpoint(2, "--method", "reward"))

    def test_an_adapter_is_the_runs_own_and_becomes_a_model(self):
        model = tiny_model.make(self.dir / "model")
        run_dir, checkpoint = self.checkpoint(1, "--model.path", model, "--model.preset", "", "--adapter.type", "lora",
                                              "--adapter.r", "2", "--train.final_dtype", "float32")
        self.expect_final(run_dir, checkpoint)
        self.assertEqual(sorted(files_of(run_dir / "final"))[:2], ["adapter_config.json", "adapter_model.safetensors"])
        text = self.export(run_dir / "final", self.dir / "merged", "--merge")
        self.assertIn("products of", text)
        self.assertEqual(sorted(files_of(self.dir / "merged")), sorted(files_of(model)))
        self.refuse(2, ["make an adapter of it first"], checkpoint, self.dir / "out", "--merge")
        self.refuse(2, ["--merge takes neither"], run_dir / "final", self.dir / "out", "--merge", "--dtype", "float32")
        self.refuse(2, ["say --merge or --ntk too"], run_dir / "final", self.dir / "out", "--base", model)
        self.refuse(4, ["this is an adapter", "adapter.path"], run_dir / "final", self.dir / "out")

    def test_weights_of_4_bits_are_copied_alone(self):
        model = ROOT / "tests/golden/model_llama_nf4"
        adapter = ROOT / "tests/golden/adapter_llama"
        self.refuse(2, ["4 bits", "--base MODEL"], adapter, self.dir / "out", "--merge", "--base", model)
        self.refuse(2, ["4 bits", "--dtype is for"], model, self.dir / "out", "--dtype", "float32")
        self.refuse(2, ["4 bits", "--to-checkpoint is for"], model, self.dir / "out", "--to-checkpoint")
        self.export(model, self.dir / "copy")
        self.assertEqual(files_of(self.dir / "copy")["model.safetensors"], files_of(model)["model.safetensors"])

    def test_a_damaged_checkpoint_is_refused(self):
        _, checkpoint = self.checkpoint(2)
        shard = checkpoint / "shard-00001-of-00002.safetensors"
        content = bytearray(shard.read_bytes())
        content[-5] ^= 1
        shard.write_bytes(content)
        self.refuse(4, [shard.name, "not as it was written"], checkpoint, self.dir / "exported")
        self.refuse(2, ["a checkpoint already"], checkpoint, self.dir / "exported", "--to-checkpoint")
        self.assertFalse((self.dir / "exported").exists())

    def test_a_checkpoint_of_a_model_trains_as_the_model_does(self):
        model = tiny_model.make(self.dir / "model")
        data, _ = self.pairs()
        config = self.config(data)
        self.export(model, self.dir / "checkpoint-0", "--to-checkpoint")
        common = ("--model.path", model, "--model.preset", "")
        self.train(2, config, *common, "--train.output_dir", self.dir / "plain")
        self.train(2, config, *common, "--train.output_dir", self.dir / "resumed", "--train.resume_from_checkpoint", self.dir / "checkpoint-0")
        self.assertEqual(steps_without_times(self.dir / "plain"), steps_without_times(self.dir / "resumed"))
        self.assertEqual(files_of(self.dir / "plain/final"), files_of(self.dir / "resumed/final"))
        self.export(self.dir / "checkpoint-0", self.dir / "back")
        self.export(model, self.dir / "again")
        self.assertEqual(json.loads((self.dir / "back/config.json").read_text()), json.loads((self.dir / "again/config.json").read_text()))


if __name__ == "__main__":
    main()
