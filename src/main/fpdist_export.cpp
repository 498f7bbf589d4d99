// fpdist_export: checkpoints and Hugging Face directories, each to the other.
//   fpdist_export CHECKPOINT | MODEL OUT [--dtype auto] [--max-shard-size 5GB]
//   fpdist_export MODEL OUT --to-checkpoint
//   fpdist_export ADAPTER OUT --merge [--base MODEL]
//   fpdist_export ADAPTER OUT --prefix VALUE
//   fpdist_export ADAPTER OUT --ntk [--base MODEL]

#include <iostream>
#include <string>
#include <vector>

#include "src/main/export/export_model.hpp"
#include "src/main/program.hpp"

namespace {

const char kHelp[] =
    "fpdist_export CHECKPOINT OUT [--dtype float32|bfloat16|float64|auto] [--max-shard-size 5GB]\n"
    "  a Hugging Face directory of a checkpoint's float32 masters, cast; tokenizer files go along. auto: as its\n"
    "  config.json says. One tensor is in memory at a time; what the checkpoint holds is verified first\n"
    "fpdist_export MODEL OUT [--dtype ...] [--max-shard-size ...]\n"
    "  the same weights in another dtype or in shards of another size\n"
    "fpdist_export ADAPTER OUT --merge [--base MODEL] [--max-shard-size ...]\n"
    "  the model with the adapter's products added into its weights, as PEFT merges; MODEL is the one that the "
    "adapter\n"
    "  names, unless --base gives another. CHECKPOINT of a run with an adapter gives the ADAPTER\n"
    "fpdist_export ADAPTER OUT --prefix VALUE\n"
    "  one of the prefixes that an adapter has by source (adapter.prefix_values) or makes of contexts (a list of "
    "numbers,\n"
    "  '[0.5, -1]'), as a directory that PEFT loads\n"
    "fpdist_export ADAPTER OUT --ntk [--base MODEL]\n"
    "  a prefix of keys as NTK-Attention's weights, which begin where it has come to: an approximation to train on\n"
    "fpdist_export MODEL OUT --to-checkpoint\n"
    "  a checkpoint ahead of the first step: the model's weights as masters, moments of zero\n"
    "OUT is not there yet, or is an empty folder\n";

}  // namespace

int main(int argc, char** argv) {
  using namespace fpdist::main_program;
  return run([&] {
    const ExportRequest request = parse_export_request({argv + 1, argv + argc});
    std::cout << (request.version ? version_text() : request.help ? kHelp : export_model(request) + "\n") << std::flush;
  });
}
