#include "src/trainer/replica.hpp"

#include "src/core/index.hpp"

namespace fpdist::trainer {

generate::Stages stages_of(const comm::Mesh& mesh, std::span<const std::unique_ptr<model::Transformer>> runs) {
  generate::Stages stages{.runs = {}, .pp = mesh.shape().pp > 1 ? &mesh.pp() : nullptr};
  for (const auto& run : runs) stages.runs.push_back(run.get());
  return stages;
}

ReplicaPart part_of_replica(const comm::Mesh& mesh, size_t count) {
  const MeshShape& shape = mesh.shape();
  const auto replicas = index(shape.dp * shape.cp), replica = index(mesh.at().dp * shape.cp + mesh.at().cp);
  return {count * replica / replicas, count * (replica + 1) / replicas};
}

bool takes_in_replica(const comm::Mesh& mesh, size_t number) {
  const MeshShape& shape = mesh.shape();
  return number % index(shape.pp * shape.tp) == index(mesh.at().pp * shape.tp + mesh.at().tp);
}

bool speaks_for_replica(const comm::Mesh& mesh) { return mesh.at().pp == 0 && mesh.at().tp == 0; }

}  // namespace fpdist::trainer
