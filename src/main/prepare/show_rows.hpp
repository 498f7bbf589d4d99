#pragma once
// main: groups as a person reads them.

#include <cstdint>
#include <span>
#include <string>

#include "fpdist/data/sample.hpp"
#include "fpdist/data/tokenizer.hpp"

namespace fpdist::main_program {

/// The samples of `group` as text, what is learned marked (`coloured`: green; else in guillemets), and their tree: a
/// line a run of shared tokens. Token ids where `tokenizer` refuses to read text.
std::string show_group(const data::Group& group, data::Tokenizer& tokenizer, bool coloured);

/// A run of tokens as one line, its middle left out where it is long.
std::string shown_run(std::span<const int32_t> run, data::Tokenizer& tokenizer);

}  // namespace fpdist::main_program
