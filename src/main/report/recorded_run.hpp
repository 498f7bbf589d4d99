#pragma once
// main (fpdist_report): what a run's folder says of it.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fpdist::main_program {

/// Numbers of steps that ascend: a column a name, as long as `step`, NaN where a line has none.
struct StepTable {
  std::vector<int64_t> step;
  std::map<std::string, std::vector<double>> column;

  /// Rows of `step` and later ones are void from now on; returns whether there were any.
  bool cut(int64_t step);
  void add(int64_t step, const std::map<std::string, double>& values);
  /// The column of that name; empty where there is none.
  const std::vector<double>& of(const std::string& name) const;
  /// At most `most` rows: each the mean of as many steps that follow each other, at the last of them.
  StepTable thinned(size_t most) const;
};

struct RecordedRun {
  std::string name;                                         ///< the last folder of its path
  std::string path;                                         ///< as it was given
  std::string method;                                       ///< "" where the configuration is not known
  std::string mesh;                                         ///< "dp 2 x pp 1 x cp 1 x tp 1", or ""
  int64_t max_steps = 0;                                    ///< 0: not known
  StepTable training, evaluation;                           ///< the latter's names begin with "eval_"
  std::vector<std::pair<std::string, std::string>> config;  ///< every key and its value; none where it is not known
  std::vector<std::pair<std::string, std::string>> files;   ///< others to look at: name and text
  std::vector<std::string> sources;                         ///< the paths that were read
  std::vector<std::string> notes;                           ///< what is missing, and what was passed over
};

/// `path`: an output_dir, or its metrics.jsonl. A run that goes on may be read: a last line that is cut is left out, of
/// a step that comes twice the later line counts. Throws DataError, naming file and line, where there is no
/// metrics.jsonl or a line is none of a run; what is wrong with other files becomes a note.
RecordedRun read_run(const std::string& path);

/// Gives runs whose names are alike as much of their paths as tells them apart.
void tell_apart(std::vector<RecordedRun>& runs);

/// Label and value of what is known of every run, in words: [label][run], "" where a run has none. Labels that no run
/// has are left out.
std::vector<std::pair<std::string, std::vector<std::string>>> facts(const std::vector<RecordedRun>& runs);

/// Keys whose values differ, as facts(); of runs with a configuration, the folder that they write to aside.
std::vector<std::pair<std::string, std::vector<std::string>>> config_differences(const std::vector<RecordedRun>& runs);

/// For the terminal: facts, the course of the loss, differences, notes.
std::string report_text(const std::vector<RecordedRun>& runs);
/// The page: facts, curves of all runs in each drawing, tables. Nothing but itself is loaded.
std::string report_page(const std::vector<RecordedRun>& runs);

}  // namespace fpdist::main_program
