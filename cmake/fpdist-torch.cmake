# torch, for who builds fpdist and, installed beside fpdist-config.cmake, for who links it. libtorch by hand: torch's own
# CMake package insists on a whole CUDA set-up, the CPU half needs two libraries.

# fpdist_find_torch(result [folder ...]): the torch package's folder: the first of these that is one, else where python3
# (or Python3_EXECUTABLE) has it, which is found and not imported. "" where there is none.
function(fpdist_find_torch result)
  set(python python3)
  if(Python3_EXECUTABLE)
    set(python "${Python3_EXECUTABLE}")
  endif()
  foreach(folder ${ARGN} python)
    if(folder STREQUAL "python")
      execute_process(COMMAND "${python}" -c
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
        OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
    if(folder AND EXISTS "${folder}/include/ATen/core/Tensor.h")
      set(${result} "${folder}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${result} "" PARENT_SCOPE)
endfunction()

# fpdist_torch_version(result folder): "2.11.0", without what is behind a plus.
function(fpdist_torch_version result folder)
  set(line "")
  if(EXISTS "${folder}/version.py")
    file(STRINGS "${folder}/version.py" line REGEX "^__version__ = " LIMIT_COUNT 1)
  endif()
  string(REGEX REPLACE "^[^'\"]*['\"]([^'\"+]*).*" "\\1" version "${line}")
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# fpdist_use_torch(target folder): what compiling and linking with libtorch takes, as properties of an interface target.
function(fpdist_use_torch target folder)
  target_include_directories(${target} SYSTEM INTERFACE "${folder}/include" "${folder}/include/torch/csrc/api/include")
  target_compile_definitions(${target} INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
  # libtorch_cpu carries DT_NEEDED entries for libcudart and libcupti; its own rpath finds them beside torch.
  target_link_options(${target} INTERFACE "LINKER:--allow-shlib-undefined")
  target_link_libraries(${target} INTERFACE "${folder}/lib/libtorch_cpu.so" "${folder}/lib/libc10.so")
endfunction()
