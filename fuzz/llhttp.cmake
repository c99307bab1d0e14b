# llhttp, the oracle of the HTTP/1 fuzz targets. Its C sources come from the PyPI source package at a pinned hash, once,
# into the folder of fetched dependencies. Never linked into the product.
set(LLHTTP_DIR ${SLUICE_DEPS_DIR}/llhttp-9.3.0.0)
if(NOT EXISTS ${LLHTTP_DIR}/lib/llhttp.c)
  file(WRITE ${CMAKE_BINARY_DIR}/llhttp.txt
       "llhttp==9.3.0.0 --hash=sha256:0d989363e7fb6f270b9d49956e7a3945c26778f8c70a166815264309ac6a8295\n")
  set(PIP_PROGRAM ${CMAKE_BINARY_DIR}/llhttp-venv/bin/pip)
  execute_process(COMMAND python3 -m venv ${CMAKE_BINARY_DIR}/llhttp-venv COMMAND_ERROR_IS_FATAL ANY)
  execute_process(
    COMMAND ${PIP_PROGRAM} download --quiet --disable-pip-version-check --no-deps --no-binary :all:
            --require-hashes -r ${CMAKE_BINARY_DIR}/llhttp.txt -d ${CMAKE_BINARY_DIR}/llhttp
    COMMAND_ERROR_IS_FATAL ANY)
  file(GLOB archive ${CMAKE_BINARY_DIR}/llhttp/llhttp-9.3.0.0.tar.gz)
  file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${SLUICE_DEPS_DIR})
endif()

add_library(llhttp STATIC ${LLHTTP_DIR}/lib/api.c ${LLHTTP_DIR}/lib/http.c ${LLHTTP_DIR}/lib/llhttp.c)
target_include_directories(llhttp SYSTEM PUBLIC ${LLHTTP_DIR}/lib)
target_compile_options(llhttp PRIVATE -w)
