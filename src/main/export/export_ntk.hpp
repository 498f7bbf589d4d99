#pragma once
// main: a trained prefix as NTK-Attention's weights, to go on from. Source: Liang et al., "Towards infinite-long prefix
// in transformer" (2024).

#include <string>

#include "src/main/export/export_request.hpp"

namespace fpdist::main_program {

/// Writes an adapter of type ntk that begins where the prefix has come to: Z = sum of phi(k) v^T and k = sum of phi(k)
/// over its keys and values, for every query head of the model that the adapter names or `request.base` is. An
/// approximation: phi(q) phi(k) stands for exp(q k). Returns a line that says so. Throws ConfigError for an adapter
/// that is no prefix of keys, ModelFileError for one of another model.
std::string export_ntk(const ExportRequest& request);

}  // namespace fpdist::main_program
