#include "src/plan/context/placement.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/core/index.hpp"

namespace fpdist::plan {

ShareScale::ShareScale(const ChunkTree& tree) : rows_(std::max<int64_t>(1, tree.rows)) {
  while (tree.pairs >> shift_ >= int64_t{1} << 33) ++shift_;
  pairs_ = std::max<int64_t>(1, tree.pairs >> shift_);
}

std::vector<Unit> make_units(const ChunkTree& tree, const ShareScale& scale, int64_t most) {
  std::vector<Unit> units;
  units.reserve(tree.chunk.size());
  for (size_t v = 0; v < tree.parent.size();) {
    const auto after = index(tree.subtree_end[v]);
    const Share whole = scale(tree.subtree_rows[v], tree.subtree_pairs[v]);
    if (whole.load() <= most) {
      const int32_t begin = tree.first_chunk[v], end = tree.first_chunk[after];
      if (begin < end) units.push_back({begin, end, tree.parent[v], 0, whole, false});
      v = after;
      continue;
    }
    for (int32_t c = tree.first_chunk[v]; c < tree.first_chunk[v + 1]; ++c) {
      const Chunk& chunk = tree.chunk[index(c)];
      units.push_back(
          {c, c + 1, static_cast<int32_t>(v), chunk.rows(), scale(chunk.rows(), chunk.pairs), tree.parent[v] < 0});
    }
    ++v;
  }
  return units;
}

Placement::Placement(const ChunkTree& tree, const std::vector<Unit>& units, int64_t teams)
    : tree_(tree),
      units_(units),
      team_of_(units.size(), -1),
      units_of_(index(teams)),
      load_(index(teams)),
      needed_(index(teams)),
      users_(tree.parent.size() * index(teams)) {}

void Placement::add(size_t unit, int64_t team) {
  const Unit& u = units_[unit];
  team_of_[unit] = team;
  units_of_[index(team)].push_back(unit);
  load_[index(team)] += u.share;
  needed_[index(team)] -= u.rows;
  for (int32_t v = u.needs; v >= 0; v = tree_.parent[index(v)]) {
    if (users(v, team)++ > 0) break;
    needed_[index(team)] += tree_.node_rows[index(v)];
  }
}

void Placement::remove(size_t unit) {
  const Unit& u = units_[unit];
  const int64_t team = team_of_[unit];
  team_of_[unit] = -1;
  std::vector<size_t>& of_team = units_of_[index(team)];
  of_team.erase(std::find(of_team.begin(), of_team.end(), unit));
  load_[index(team)] -= u.share;
  needed_[index(team)] += u.rows;
  for (int32_t v = u.needs; v >= 0; v = tree_.parent[index(v)]) {
    if (--users(v, team) > 0) break;
    needed_[index(team)] -= tree_.node_rows[index(v)];
  }
}

int64_t Placement::added_rows(size_t unit, int64_t team) const {
  int64_t rows = 0;
  for (int32_t v = units_[unit].needs; v >= 0 && users(v, team) == 0; v = tree_.parent[index(v)])
    rows += tree_.node_rows[index(v)];
  return rows;
}

void Placement::added_rows(size_t unit, std::vector<int64_t>& rows) const {
  std::fill(rows.begin(), rows.end(), 0);
  for (int32_t v = units_[unit].needs; v >= 0; v = tree_.parent[index(v)]) {
    const int32_t* const used = users_.data() + v * teams();
    const int64_t of_node = tree_.node_rows[index(v)];
    for (size_t g = 0; g < rows.size(); ++g) rows[g] += used[g] == 0 ? of_node : 0;
  }
}

int64_t Placement::saved_rows(size_t unit) const {
  const int64_t team = team_of_[unit];
  int64_t rows = -units_[unit].rows;
  for (int32_t v = units_[unit].needs; v >= 0 && users(v, team) == 1; v = tree_.parent[index(v)])
    rows += tree_.node_rows[index(v)];
  return rows;
}

int64_t Placement::heaviest() const {
  int64_t worst = 0;
  for (int64_t g = 1; g < teams(); ++g)
    if (load(g).load() > load(worst).load()) worst = g;
  return worst;
}

}  // namespace fpdist::plan
