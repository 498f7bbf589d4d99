#pragma once
// files: folders, the names in them, and what others write there. What a call has changed survives a power loss when it
// returns, but for remove(). Every failure is a DiskError.

#include <string>

namespace fpdist::files {

/// Makes the folder `path`, and those above it, where they are missing. Several processes may at once.
void make_folder(const std::string& path);

/// Makes the folder `path`, whose parent is there; false, and nothing is done, where something is called so.
bool make_new_folder(const std::string& path);

/// `from` is called `to` from now on; a file of that name is replaced. The folder of `to` is synced. Where it throws,
/// it has taken the new name back.
void rename(const std::string& from, const std::string& to);

/// `one` and `other`, two names in the same folder, change places in one step. False, and nothing is done, where the
/// file system cannot (NFS). Where it throws, it has changed them back.
bool exchange(const std::string& one, const std::string& other);

/// fsync of a file that others write: what they have written so far survives a power loss. Nothing where there is none.
void sync(const std::string& path);

/// Removes a file or an empty folder; nothing where there is none. Its folder is the caller's to sync.
void remove(const std::string& path);

}  // namespace fpdist::files
