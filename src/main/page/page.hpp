#pragma once
// main: what the pages of the programs share. Everything is inline: a page works from a file, offline, anywhere.

#include <string>
#include <string_view>

namespace fpdist::main_program {

/// As text of a page, between tags or in an attribute.
std::string escaped(std::string_view words);

/// From the first line to <main>, in the house's style and `more_style`. Colours are variables, of a light and a dark
/// page: --ink, --faint, --line, --card, and --c0 to --c7 for curves.
std::string page_head(std::string_view title, std::string_view more_style = "");
/// Behind the last line of <main>.
std::string_view page_end();

/// The local date and time, "2026-11-26 11:03".
std::string date_and_time();

/// The colour of curve `index`: "var(--c3)"; there are eight.
std::string curve_colour(size_t index);

}  // namespace fpdist::main_program
