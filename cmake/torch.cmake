# FPDIST_TORCH_DIR: what is given, else what launch/setup.sh has put into .deps, else python3's.
include(cmake/fpdist-torch.cmake)
if(NOT FPDIST_TORCH_DIR)
  fpdist_find_torch(fpdist_torch_found "${PROJECT_SOURCE_DIR}/.deps/python/torch")
  if(NOT fpdist_torch_found)
    message(FATAL_ERROR "no torch in ${PROJECT_SOURCE_DIR}/.deps, and python3 has none: run launch/setup.sh, or pass -DFPDIST_TORCH_DIR=<the torch package's folder>")
  endif()
  set(FPDIST_TORCH_DIR "${fpdist_torch_found}" CACHE PATH "The torch package's folder")
elseif(NOT EXISTS "${FPDIST_TORCH_DIR}/include/ATen/core/Tensor.h")
  message(FATAL_ERROR "no torch in ${FPDIST_TORCH_DIR}: run launch/setup.sh, or pass -DFPDIST_TORCH_DIR=<the torch package's folder>")
endif()
fpdist_torch_version(FPDIST_TORCH_VERSION "${FPDIST_TORCH_DIR}")

add_library(fpdist_torch INTERFACE)
fpdist_use_torch(fpdist_torch "${FPDIST_TORCH_DIR}")

# ATen's parallel_for is parallel in the sources alone that are compiled for OpenMP. The runtime is the one that torch
# brings: two in a process would have two pools of threads.
find_package(OpenMP REQUIRED COMPONENTS CXX)
file(GLOB fpdist_openmp_runtime "${FPDIST_TORCH_DIR}/lib/libgomp*.so*")
if(NOT fpdist_openmp_runtime)
  set(fpdist_openmp_runtime ${OpenMP_CXX_LIBRARIES})
endif()
add_library(fpdist_openmp INTERFACE)
target_compile_options(fpdist_openmp INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${OpenMP_CXX_FLAGS}>")
target_link_libraries(fpdist_openmp INTERFACE ${fpdist_openmp_runtime})
