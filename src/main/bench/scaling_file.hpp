#pragma once
// main (fpdist_bench): the file that scaling runs append to, one JSON line a run, and what is read from it.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "src/main/bench/bench.hpp"

namespace fpdist::bench {

using Line = nlohmann::ordered_json;

/// The lines of scaling runs; those of other benches are passed over. None when there is no such file. Throws DataError
/// ("file:line: ...") for a line that is no scaling result.
std::vector<Line> read_scaling(const std::string& path);

/// Lines that one curve connects: the same workload, mode and sharing.
std::string series_of(const Line& line);

/// Sets `efficiency` of `line`: tokens/s a rank over that of the fewest ranks of its series in `lines` (or its own),
/// and `baseline_np`, those ranks. It is 1 for perfect scaling, weak or strong.
void set_efficiency(Line& line, const std::vector<Line>& lines);

const std::vector<Table::TableColumn>& scaling_columns();

/// A page with the table and a drawing of each over ranks: tokens/s, efficiency, MFU as executed and as useful, bubble,
/// communication that compute did not hide; and machine, dtype and dates. Needs nothing but a browser.
std::string scaling_page(const std::vector<Line>& lines);

}  // namespace fpdist::bench
