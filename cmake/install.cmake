# What an installation holds, below any prefix, and movable: programs, libraries and scripts find each other from where
# they lie. torch stays where it is; lib/fpdist/torch is a link to it, the one path that leaves the prefix
# (launch/link_torch.sh makes it anew where torch lies elsewhere).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME fpdist)
set(fpdist_share "${CMAKE_INSTALL_DATAROOTDIR}/fpdist")
set(fpdist_cmake "${CMAKE_INSTALL_LIBDIR}/cmake/fpdist")
set(fpdist_torch_link "${CMAKE_INSTALL_LIBDIR}/fpdist/torch")
file(RELATIVE_PATH fpdist_lib_from_bin "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")

# An MPI that the loader does not look for by itself.
set(fpdist_mpi_folders "")
foreach(library ${MPI_C_LIBRARIES})
  get_filename_component(library "${library}" REALPATH)
  get_filename_component(folder "${library}" DIRECTORY)
  if(NOT folder IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
    list(APPEND fpdist_mpi_folders "${folder}")
  endif()
endforeach()

# Libraries, headers and what find_package reads.
set_target_properties(fpdist_planning PROPERTIES EXPORT_NAME planning)
set_target_properties(fpdist PROPERTIES INSTALL_RPATH "$ORIGIN/fpdist/torch/lib;${fpdist_mpi_folders}")
install(TARGETS fpdist_planning EXPORT fpdist-planning-targets ARCHIVE INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS fpdist EXPORT fpdist-targets LIBRARY INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ TYPE INCLUDE FILES_MATCHING PATTERN *.hpp)
foreach(export fpdist-planning-targets fpdist-targets)
  install(EXPORT ${export} NAMESPACE fpdist:: DESTINATION ${fpdist_cmake})
endforeach()
configure_package_config_file(cmake/fpdist-config.cmake.in ${PROJECT_BINARY_DIR}/cmake/fpdist-config.cmake
  INSTALL_DESTINATION ${fpdist_cmake} PATH_VARS fpdist_torch_link)
# Before 1.0 any minor version may break what the one before it promised.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cmake/fpdist-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cmake/fpdist-config.cmake ${PROJECT_BINARY_DIR}/cmake/fpdist-config-version.cmake
  ${PROJECT_SOURCE_DIR}/cmake/fpdist-torch.cmake DESTINATION ${fpdist_cmake})
if(TARGET fpdist_cuda)
  list(TRANSFORM fpdist_nvidia_lib_dirs REPLACE "^.*/nvidia/" "$ORIGIN/fpdist/torch/../nvidia/"
    OUTPUT_VARIABLE fpdist_nvidia_beside_torch)
  set_target_properties(fpdist_cuda PROPERTIES
    INSTALL_RPATH "$ORIGIN;$ORIGIN/fpdist/torch/lib;${fpdist_nvidia_beside_torch};${CUDAToolkit_LIBRARY_DIR}")
  install(TARGETS fpdist_cuda LIBRARY)
endif()

# Programs.
if(TARGET fpdist_train)
  set(fpdist_programs fpdist_train fpdist_prepare fpdist_plan fpdist_report fpdist_bench fpdist_export fpdist_generate)
  set_target_properties(${fpdist_programs} PROPERTIES
    INSTALL_RPATH "$ORIGIN/${fpdist_lib_from_bin};$ORIGIN/${fpdist_lib_from_bin}/fpdist/torch/lib")
  install(TARGETS ${fpdist_programs} RUNTIME)
endif()

# What they read: text workers with what these import (launch/setup.sh), configs; and what people read.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/data/text/worker/ DESTINATION ${fpdist_share}/text FILES_MATCHING PATTERN *.py)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/.deps/text/ DESTINATION ${fpdist_share}/text/packages OPTIONAL
  PATTERN __pycache__ EXCLUDE)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/.deps/tables/ DESTINATION ${fpdist_share}/text/tables OPTIONAL
  COMPONENT fpdist_tables PATTERN __pycache__ EXCLUDE)  # 170 MB: no part of a package
install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs ${PROJECT_SOURCE_DIR}/examples DESTINATION ${fpdist_share})
install(PROGRAMS ${PROJECT_SOURCE_DIR}/launch/link_torch.sh DESTINATION ${fpdist_share})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/README.md TYPE DOC)

# Of this machine, and so no part of a package either.
install(CODE "
  file(MAKE_DIRECTORY \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/fpdist\")
  file(CREATE_LINK \"${FPDIST_TORCH_DIR}\" \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${fpdist_torch_link}\" SYMBOLIC)"
  COMPONENT fpdist_torch_link)

if(PROJECT_IS_TOP_LEVEL)
  include(cmake/package.cmake)
endif()
