// The way through comm. A job makes a World (here), a Mesh splits it into axes (mesh.cpp), and the rooms above talk on
// these: each is a Communicator (communicator.hpp), whatever carries its tensors.
//
// Base: communicator.cpp is a communicator that begins nothing: what it starts is done when the call returns.
//   forwarding_communicator.hpp leaves every call to another one, for those that change a few. arguments.cpp says what
//   every communicator asks of its callers, in one wording. work.hpp: Works made of others. journal.cpp: where a rank
//   is and what it called lately, for error texts and the flight record. reduce.cpp: the local half of a sum, in
//   ascending rank order. slow_work.cpp: what a rank does on its own while others wait. broadcast_text.cpp: words of
//   one rank for all. gather_parts.cpp: lists and words of all for all. agreement.cpp: what they hold alike.
//   world_threads.cpp: ranks that are threads.
// host/: tensors in host memory. host_communicator.cpp (groups, splits) and host_communicator_collectives.cpp make
//   every call of exchanges between pairs, so that all transports give the same bits. A Transport (transport.hpp) moves
//   the bytes of an exchange: thread_transport.cpp inside a process, mpi_transport.cpp between processes: its waits and
//   aborts, over mpi_flight.cpp, the requests of one exchange; life_signs.cpp: a thread that says that the rank lives.
// device/: tensors anywhere. device_open.cpp looks for a GPU, device_choice.cpp decides, ../cuda_library.hpp is what
//   may be asked of libfpdist_cuda.so; device_cpu.cpp is the CPU, device_upload.cpp what all devices do alike. A
//   device's communicator (routed_communicator.cpp) sends CPU tensors by the host's and its own by a DeviceSide:
//   device_side_staged.cpp by way of host memory, stream_side.cpp over a StreamLink, whose unequal counts become
//   messages. directed_pairs.cpp gives neighbours on a pipeline's ring communicators of their own, for a device runs
//   each one's calls in order.
// cuda/ (in libfpdist_cuda.so): cuda_library.cpp is its entry, cuda_device.cpp a GPU as a Device, nccl_link.cpp an NCCL
//   communicator as a StreamLink, nccl_context.cpp what all of them share: lock, verdict, watchdog.
//
// The numbers, which are one system. No call blocks: what is begun is polled, more and more politely, because ranks may
// outnumber cores (mpi_transport: spin, yield, then sleep 50 us to 1 ms; nccl_link: 50 us), until CommOptions::timeout
// says that a peer is lost, counted from the last sign of life of a rank in slow work: one every eighth of it, so that
// a few may be late; 10 s at most, so that whoever looks sees them; no longer than slow_timeout without a wait. A
// failure shall be told with the exit code of its first cause. So who only sees its connection break waits for the
// culprit's own words (nccl_context: 1 s; it looks every 50 ms), and who was told of an abort leaves the teller 300 ms
// to end the job (mpi_transport). A good end waits 10 s at most for the peers' last operations (nccl_link): they have
// long begun. An abort's reason has 1 KiB, which MPI sends eagerly: nobody need be receiving. Sums up to 64 KiB are
// made by everyone from everything (host_communicator_collectives): a second round of messages would cost more than the
// bytes that it saves; longer ones in rounds of CommOptions::scratch_bytes.

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
  int local_rank = 0, local_size = 1, first_local = 0;
  int exceptions = std::uncaught_exceptions();  ///< under way when the World was made
};

World::World(int* argc, char*** argv, CommOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->mpi = std::make_shared<MpiTransport>(argc, argv, options);
  impl_->journal = impl_->mpi->journal();
  impl_->communicator = std::make_unique<HostCommunicator>(impl_->mpi, "world");
  impl_->local_rank = impl_->mpi->local_rank();
  impl_->local_size = impl_->mpi->local_size();
  impl_->first_local = impl_->mpi->first_local();
}

World::World(std::unique_ptr<Communicator> communicator, int local_size, std::shared_ptr<Journal> journal)
    : impl_(std::make_unique<Impl>()) {
  impl_->journal = journal ? std::move(journal) : std::make_shared<Journal>();
  impl_->communicator = std::move(communicator);
  impl_->local_size = local_size;
  impl_->local_rank = impl_->communicator->rank() % local_size;
  impl_->first_local = impl_->communicator->rank() - impl_->local_rank;
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
int World::first_local() const { return impl_->first_local; }
Communicator& World::communicator() const { return *impl_->communicator; }

void World::set_position(std::string position) { impl_->journal->set_position(std::move(position)); }

std::string World::flight_record() const { return impl_->journal->json(rank(), size()); }

void World::abort(int code, const std::string& reason) noexcept {
  impl_->communicator->abort(reason);
  if (impl_->mpi) impl_->mpi->end_job(code);
}

}  // namespace fpdist::comm
