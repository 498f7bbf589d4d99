// fpdist_report: what runs have come to, in the terminal and as a page.
//   fpdist_report RUN... [--html FILE]

#include <iostream>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/files/files.hpp"
#include "src/files/inputs.hpp"
#include "src/main/plain_program.hpp"
#include "src/main/report/recorded_run.hpp"

namespace {

using namespace fpdist;
using namespace fpdist::main_program;

const char kHelp[] =
    "fpdist_report RUN... [--html FILE]\n"
    "  says what runs have come to, beside each other, and in which keys they differ; they may still go on\n"
    "  RUN          the output_dir of a run that has jsonl in train.report_to, or its metrics.jsonl\n"
    "  --html FILE  writes a page of curves and tables that needs nothing but a browser\n";

struct ReportArguments {
  std::vector<std::string> runs;
  std::string html;
  bool help = false, version = false;
};

ReportArguments read_arguments(int argc, char** argv) {
  ReportArguments arguments;
  for (int at = 1; at < argc; ++at) {
    const std::string word = argv[at];
    if (word == "--help" || word == "-h") {
      arguments.help = true;
    } else if (word == "--version") {
      arguments.version = true;
    } else if (word == "--html") {
      check<ConfigError>(at + 1 < argc, "--html needs a file to write; see fpdist_report --help");
      arguments.html = argv[++at];
    } else if (word.starts_with("--html=")) {
      arguments.html = word.substr(word.find('=') + 1);
    } else {
      check<ConfigError>(!word.starts_with("-"), "unknown option ", word, "; see fpdist_report --help");
      arguments.runs.push_back(word);
    }
  }
  check<ConfigError>(arguments.help || arguments.version || !arguments.runs.empty(),
                     "name the output_dir of a run; see fpdist_report --help");
  return arguments;
}

void report(const ReportArguments& arguments) {
  std::vector<RecordedRun> runs;
  files::Inputs inputs;
  for (const std::string& path : arguments.runs) {
    runs.push_back(read_run(path));
    for (const std::string& file : runs.back().sources) inputs.add(path, file);
  }
  if (!arguments.html.empty()) inputs.check_spared(arguments.html, "give --html another file");
  tell_apart(runs);
  std::cout << report_text(runs);
  if (arguments.html.empty()) return;
  files::write(arguments.html, report_page(runs));
  std::cout << "wrote " << arguments.html << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  return run_alone([&] {
    const ReportArguments arguments = read_arguments(argc, argv);
    if (arguments.version)
      std::cout << plain_version_text();
    else if (arguments.help)
      std::cout << kHelp;
    else
      report(arguments);
  });
}
