# AWS-LC: TLS and cryptography. Fetched and built once by scripts/fetch_deps.sh, into a folder that every build folder of
# this checkout shares; sanitizer builds link the same optimised library. Never link OpenSSL's libssl or libcrypto, or a
# library that loads them, into the same binary: the symbol names are the same.
set(SLUICE_DEPS_DIR ${CMAKE_SOURCE_DIR}/build/deps CACHE PATH "Where fetched dependencies are kept and built")

execute_process(COMMAND ${CMAKE_SOURCE_DIR}/scripts/fetch_deps.sh ${SLUICE_DEPS_DIR} COMMAND_ERROR_IS_FATAL ANY)
set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
             ${CMAKE_SOURCE_DIR}/scripts/fetch_deps.sh ${CMAKE_SOURCE_DIR}/third_party/rust/Cargo.lock)

add_library(sluice_crypto_library STATIC IMPORTED GLOBAL)
set_target_properties(sluice_crypto_library PROPERTIES
  IMPORTED_LOCATION ${SLUICE_DEPS_DIR}/aws-lc/lib/libcrypto.a
  INTERFACE_INCLUDE_DIRECTORIES ${SLUICE_DEPS_DIR}/aws-lc/include
  INTERFACE_LINK_LIBRARIES Threads::Threads)

add_library(sluice_tls_library STATIC IMPORTED GLOBAL)
set_target_properties(sluice_tls_library PROPERTIES
  IMPORTED_LOCATION ${SLUICE_DEPS_DIR}/aws-lc/lib/libssl.a
  INTERFACE_INCLUDE_DIRECTORIES ${SLUICE_DEPS_DIR}/aws-lc/include
  INTERFACE_LINK_LIBRARIES sluice_crypto_library)
