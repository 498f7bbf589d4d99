#!/usr/bin/env python3
"""The style check must notice: each case plants one breach in a small clean tree and expects its rule, and only it."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
CLEAN = {
    "include/fpdist/core/a.hpp": "#pragma once\n\nint a();\n",
    "src/core/a.cpp": '#include "fpdist/core/a.hpp"\n\nint a() { return 1; }  // never calls exit(1) or prints with printf(x)\n',
    "src/core/CMakeLists.txt": "target_sources(x PRIVATE a.cpp)\n",
    "launch/run.sh": "#!/bin/sh\necho run\n",
}


def check(files):
    """Exit code and output of the check on CLEAN with `files` on top."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {**CLEAN, **files}.items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        shutil.copy(HERE.parents[1] / ".clang-format", folder)
        done = subprocess.run([sys.executable, HERE / "style_check.py", folder], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def source(room, line):
    """A listed source of `room` that holds one line, and a header of its name."""
    return {f"src/{room}/a.cpp": line + "\n", f"src/{room}/a.hpp": "#pragma once\n",
            f"src/{room}/CMakeLists.txt": "target_sources(x PRIVATE a.cpp)\n"}


class Style(unittest.TestCase):
    def expect(self, rule, files):
        code, output = check(files)
        breaches = [line for line in output.splitlines() if not line.startswith(("SKIPPED", "warning"))]
        self.assertEqual(code, 1, output)
        self.assertTrue(all(f": {rule}: " in line for line in breaches), output)

    def allow(self, files):
        code, output = check(files)
        self.assertEqual(code, 0, output)

    def test_a_clean_tree_passes(self):
        self.allow({})

    def test_includes_go_down(self):
        self.expect("include", source("core", '#include "fpdist/data/sample.hpp"'))
        self.expect("include", source("loss", '#include "fpdist/data/reader.hpp"'))
        self.expect("include", source("parallel", '#include "fpdist/model/transformer.hpp"'))
        self.expect("include", source("data", '#include "fpdist/config/config.hpp"'))
        self.expect("include", source("config", '#include "fpdist/comm/world.hpp"'))
        self.expect("include", source("plan", '#include "src/trainer/calibrate.hpp"'))
        self.expect("include", source("trainer", '#include "src/loss/reward.hpp"'))
        self.expect("include", source("config", '#include "fpdist/trainer/trainer.hpp"'))
        self.expect("include", source("core", '#include "fpdist/fpdist.hpp"'))
        self.expect("include", {"include/fpdist/core/b.hpp": '#pragma once\n#include "src/core/b.hpp"\n'})
        self.allow(source("loss", '#include "fpdist/data/sample.hpp"'))
        self.allow(source("checkpoint", '#include "src/files/files.hpp"'))
        self.allow(source("trainer", '#include "fpdist/config/config.hpp"'))
        self.allow(source("config", '#include "fpdist/loss/options.hpp"'))
        self.allow(source("trainer", '#include "fpdist/loss/loss.hpp"'))

    def test_libraries_stay_in_their_rooms(self):
        self.expect("library", source("trainer", "#include <mpi.h>"))
        self.expect("library", source("trainer", "#include <yaml-cpp/yaml.h>"))
        self.expect("library", source("data", "#include <boost/program_options.hpp>"))
        self.expect("library", source("plan", "#include <ATen/ATen.h>"))
        for name in ("nlohmann/json.hpp", "simdjson.h", "mpi.h", "yaml-cpp/yaml.h", "boost/any.hpp"):
            self.expect("library", {"include/fpdist/comm/b.hpp": f"#pragma once\n#include <{name}>\n"})
        self.allow(source("comm", "#include <mpi.h>"))

    def test_headers_have_pragma_once(self):
        self.expect("pragma", {"include/fpdist/core/b.hpp": "int b();\n"})

    def test_long_files_are_refused_and_longish_ones_named(self):
        self.expect("length", {"include/fpdist/core/b.hpp": "#pragma once\n" + "int b();\n" * 600})
        code, output = check({"include/fpdist/core/b.hpp": "#pragma once\n" + "int b();\n" * 450})
        self.assertEqual(code, 0, output)
        self.assertIn("b.hpp: 451 lines", output)

    def test_banned_calls_stay_in_their_rooms(self):
        for call in ('std::getenv("X")', 'setenv("X", "", 1)', "exit(1)", "std::exit(1)", "abort()", "::_exit(1)",
                     "std::cout << 1", "std::cerr << 1", 'printf("")', 'std::fprintf(stderr, "")', "MPI_Barrier(x)", "ncclSend(x)"):
            self.expect("call", source("core", f"int f() {{ return {call}; }}"))
        for call in ('std::ofstream("a")', 'std::fstream("a")', 'fopen("a", "w")', '::open("a", O_WRONLY)', '::open("a", O_RDWR)'):
            self.expect("call", source("trainer", f"auto f() {{ return {call}; }}"))
            self.allow(source("files", f"auto f() {{ return {call}; }}"))
        self.allow(source("trainer", 'auto f() { return std::pair(std::ifstream("a"), ::open("a", O_RDONLY)); }'))
        self.allow(source("main", 'int f() { return getenv("X") ? exit(1) : std::cout << 1; }'))
        self.allow(source("trainer", "void f() { world.abort(1), abort(reason); }"))
        self.allow(source("comm", "int f() { return MPI_Barrier(x); }"))

    def test_methods_are_known_to_data_losses_and_config(self):
        for room in ("core", "plan", "model", "trainer"):
            self.expect("method", source(room, "bool f(Method method) { return method == Method::kDpo; }"))
        self.expect("method", {"include/fpdist/core/b.hpp": "#pragma once\nconstexpr Method kOne = fpdist::Method::kSft;\n"})
        for room in ("data", "loss", "config", "main"):
            self.allow(source(room, "bool f(Method method) { return method == Method::kDpo; }"))
        self.allow(source("plan", "bool f(CpMethod method) { return method == CpMethod::kRing; }"))

    def test_unfinished_work_is_refused(self):
        for marker in ("TO" + "DO", "FIX" + "ME"):
            self.expect("todo", source("core", f"// {marker}: later"))

    def test_long_functions_are_refused(self):
        body = "  g();\n" * 60
        self.expect("function", source("core", "int f() {\n" + body + "}"))
        self.expect("function", source("core", "struct A {\n  int f(int a) const {\n" + "    g();\n" * 60 + "  }\n};"))
        self.allow(source("core", "int f() {\n" + "  g();\n" * 58 + "}"))

    def test_a_class_stands_in_two_sources_at_most(self):
        method = lambda name: f"namespace fpdist {{\nvoid A::{name}() {{}}\n}}  // namespace fpdist\n"
        files = {f"src/core/a_{name}.cpp": method(name) for name in "bcd"}
        files["src/core/CMakeLists.txt"] = "target_sources(x PRIVATE a.cpp a_b.cpp a_c.cpp a_d.cpp)\n"
        self.expect("spread", files)
        del files["src/core/a_d.cpp"]
        self.allow(files)

    def test_a_source_is_called_after_its_header(self):
        files = {"src/core/other.cpp": "int b;\n", "src/core/CMakeLists.txt": "target_sources(x PRIVATE a.cpp other.cpp)\n"}
        self.expect("stem", files)
        self.allow({**files, "src/core/other.hpp": "#pragma once\n"})

    def test_a_type_name_stands_once(self):
        two = {"src/core/b.hpp": "#pragma once\nstruct Twice {\n  int a;\n};\n", "src/plan/c.hpp": "#pragma once\nclass Twice {\n  int a;\n};\n"}
        self.expect("twice", two)
        self.allow({name: text.replace("Twice", "Impl") for name, text in two.items()})

    def test_folders_do_not_include_in_a_circle(self):
        there = {"src/plan/costs/b.hpp": '#pragma once\n\n#include "src/plan/pack/c.hpp"\n', "src/plan/pack/c.hpp": "#pragma once\n"}
        self.allow(there)
        self.expect("circle", {**there, "src/plan/pack/c.hpp": '#pragma once\n\n#include "src/plan/costs/b.hpp"\n'})

    def test_every_source_is_listed(self):
        self.expect("unlisted", {"src/core/a_b.cpp": "int b;\n"})
        self.expect("unlisted", {"src/core/a_ba.cpp": "int b;\n"})

    @unittest.skipUnless(shutil.which("clang-format"), "SKIPPED: clang-format is not installed")
    def test_formatting_is_checked(self):
        self.expect("format", source("core", "int   b  ;"))

    @unittest.skipUnless(shutil.which("shellcheck"), "SKIPPED: shellcheck is not installed")
    def test_scripts_are_checked(self):
        self.expect("shell", {"launch/run.sh": "#!/bin/sh\nrm $1\n"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
