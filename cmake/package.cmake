# cpack -G TGZ|DEB in the build folder: the component fpdist of an installation. The .deb depends on Debian's packages; torch
# is none of them, and its postinst links what python3 has (launch/link_torch.sh).
set(CPACK_GENERATOR TGZ DEB)
set(CPACK_PACKAGE_VENDOR "fpdist")
set(CPACK_PACKAGE_CONTACT "The fpdist authors")
set(CPACK_PACKAGE_DESCRIPTION "A C++20 library on libtorch, MPI and NCCL, its trainer and its planner. Every prefix that samples
share is computed once, and exactly. Needs torch ${FPDIST_TORCH_VERSION} of PyPI, which is not in this package:
sh /usr/share/fpdist/link_torch.sh links it.")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_INSTALL_CMAKE_PROJECTS "${PROJECT_BINARY_DIR};fpdist;fpdist;/")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "python3, openmpi-bin")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "libsimdjson-dev, libyaml-cpp-dev, libxxhash-dev")  # what linking fpdist::planning takes
# dpkg-shlibdeps finds the packages of all other libraries (Debian: dpkg-dev, file).
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${FPDIST_TORCH_DIR}/lib")
if(TARGET fpdist_cuda)
  list(APPEND CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${fpdist_nvidia_lib_dirs} "${CUDAToolkit_LIBRARY_DIR}")
endif()
foreach(script postinst prerm)
  configure_file(cmake/debian/${script} ${PROJECT_BINARY_DIR}/cmake/debian/${script} COPYONLY
    FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/cmake/debian/${script})
endforeach()
include(CPack)
