#include <nlohmann/json.hpp>

#include "src/main/prepare/data_report.hpp"

namespace fpdist::main_program {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kBars = 40;

Json json_of(const Lengths& lengths) {
  Json bars = Json::array();
  for (const Bar& bar : histogram(lengths, kBars))
    bars.push_back({{"from", bar.from}, {"to", bar.to}, {"count", bar.count}});
  return {{"mean", lengths.mean()},
          {"shortest", lengths.sorted.front()},
          {"half_up_to", lengths.quantile(0.5)},
          {"95_percent_up_to", lengths.quantile(0.95)},
          {"longest", lengths.sorted.back()},
          {"histogram", bars}};
}

}  // namespace

std::string report_json(const DataReport& report) {
  Json json{{"groups", report.groups},
            {"samples", report.samples},
            {"tokens", report.tokens},
            {"targets", report.targets},
            {"dropped_rows", report.dropped},
            {"cut_samples", report.cut},
            {"differing_prompts", report.differing_prompts},
            {"sharing",
             {{"groups", report.sharing_groups},
              {"step_shuffle", report.sharing_shuffled},
              {"step_prefix", report.sharing_by_prefix},
              {"all", report.sharing_all}}}};
  for (const Lengths& lengths : report.lengths) json["lengths"][lengths.of] = json_of(lengths);
  json["largest_shared_prefixes"] = Json::array();
  for (const SharedPrefix& one : report.largest)
    json["largest_shared_prefixes"].push_back(
        {{"tokens", one.tokens}, {"samples", one.samples}, {"saved", one.saved}, {"text", one.text}});
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace fpdist::main_program
