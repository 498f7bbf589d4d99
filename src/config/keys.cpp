#include "src/config/keys.hpp"

#include <algorithm>
#include <array>
#include <type_traits>

#include "fpdist/core/error.hpp"

namespace fpdist::config {
namespace {

template <auto kSection>
void add(std::string_view section, std::vector<ConfigKey>& all) {
  using Options = std::remove_cvref_t<decltype(std::declval<Config&>().*kSection)>;
  for (const Key& key : Options::keys())
    all.push_back(
        {text(section, ".", key.name), section, &key, [](Config& config) -> void* { return &(config.*kSection); }});
}

std::vector<ConfigKey> collect() {
  using Options = Config;
  static constexpr Key kMethod = FPDIST_NAMED_KEY(method, "what is trained", kMethods);
  std::vector<ConfigKey> all{
      {std::string(kMethod.name), "", &kMethod, [](Config& config) -> void* { return &config; }}};
  add<&Config::model>("model", all);
  add<&Config::adapter>("adapter", all);
  add<&Config::data>("data", all);
  add<&Config::loss>("loss", all);
  add<&Config::rollout>("rollout", all);
  add<&Config::reward>("reward", all);
  add<&Config::eval>("eval", all);
  add<&Config::flex_prefill>("flex_prefill", all);
  add<&Config::train>("train", all);
  add<&Config::optim>("optim", all);
  add<&Config::parallel>("parallel", all);
  add<&Config::pack>("pack", all);
  add<&Config::comm>("comm", all);
  add<&Config::plan>("plan", all);
  return all;
}

}  // namespace

const std::vector<ConfigKey>& keys() {
  static const std::vector<ConfigKey> all = collect();
  return all;
}

const ConfigKey* find_key(std::string_view name) {
  std::string normal(name);
  std::replace(normal.begin(), normal.end(), '-', '_');
  const auto& all = keys();
  const auto found = std::find_if(all.begin(), all.end(), [&](const ConfigKey& key) { return key.name == normal; });
  return found == all.end() ? nullptr : &*found;
}

std::string values_of(const ConfigKey& key) {
  Config any;
  const Field field = key.field(any);
  if (!key.key->valid.values.empty()) return std::string(key.key->valid.values);
  if (const auto* named = std::get_if<NamedField>(&field)) return joined(named->names(), " | ", " | ");
  return type_of(field);
}

}  // namespace fpdist::config
