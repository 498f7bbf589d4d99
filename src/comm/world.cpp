#include "fpdist/comm/world.hpp"

#include <exception>
#include <utility>

#include "src/comm/host/host_communicator.hpp"
#include "src/comm/host/mpi_transport.hpp"
#include "src/comm/journal.hpp"

namespace fpdist::comm {

struct World::Impl {
  std::shared_ptr<MpiTransport> mpi;  ///< empty for thread ranks
  std::shared_ptr<Journal> journal;
  std::unique_ptr<Communicator> communicator;
  int local_rank = 0, local_size = 1;
  int exceptions = std::uncaught_exceptions();  ///< under way when the World was made
};

World::World(int* argc, char*** argv, CommOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->mpi = std::make_shared<MpiTransport>(argc, argv, options);
  impl_->journal = impl_->mpi->journal();
  impl_->communicator = std::make_unique<HostCommunicator>(impl_->mpi, "world");
  impl_->local_rank = impl_->mpi->local_rank();
  impl_->local_size = impl_->mpi->local_size();
}

World::World(std::unique_ptr<Communicator> communicator, int local_size, std::shared_ptr<Journal> journal)
    : impl_(std::make_unique<Impl>()) {
  impl_->journal = journal ? std::move(journal) : std::make_shared<Journal>();
  impl_->communicator = std::move(communicator);
  impl_->local_size = local_size;
  impl_->local_rank = impl_->communicator->rank() % local_size;
}

World::~World() {
  if (impl_ && std::uncaught_exceptions() > impl_->exceptions) {
    impl_->communicator->abort("an error is ending this rank");
  }
}

World::World(World&&) noexcept = default;
World& World::operator=(World&&) noexcept = default;

int World::local_rank() const { return impl_->local_rank; }
int World::local_size() const { return impl_->local_size; }
Communicator& World::communicator() const { return *impl_->communicator; }

void World::set_position(std::string position) { impl_->journal->set_position(std::move(position)); }

std::string World::flight_record() const { return impl_->journal->json(rank(), size()); }

void World::abort(int code, const std::string& reason) noexcept {
  impl_->communicator->abort(reason);
  if (impl_->mpi) impl_->mpi->end_job(code);
}

}  // namespace fpdist::comm
