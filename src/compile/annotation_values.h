#pragma once
// Readers of annotation values. Each returns false and sets `error` ("… is not …") when the value
// can't be understood, and then leaves the output alone. True with an error set: a part of the
// value was ignored. Private to compile/.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "compile/annotations.h"

namespace sluice::compile {

std::string_view trim(std::string_view text);
// Every line trimmed, empty lines kept, as all string values of annotations are read.
std::string trim_lines(std::string_view text);
std::vector<std::string> split_list(std::string_view text, std::string_view separators);
bool iequals(std::string_view a, std::string_view b);

bool is_header_name(std::string_view name);

// RE2, with a bound on its size.
bool compile_regex(std::string_view text, std::shared_ptr<const re2::RE2>* out, std::string* error);
// Go's ParseBool: 1 t T TRUE true True 0 f F FALSE false False, nothing else.
bool parse_bool(std::string_view text, bool* out, std::string* error);
bool parse_int(std::string_view text, int64_t* out, std::string* error);
bool parse_secret_ref(std::string_view text, const std::string& ns, SecretRef* out, std::string* error);
// Lines of "key value"; quotes around either are taken off; the last of equal keys wins.
bool parse_header_edits(std::string_view text, HeaderEdits* out, std::string* error);
bool parse_header_names(std::string_view text, std::vector<std::string>* out, std::string* error);
bool parse_destinations(std::string_view text, std::vector<DestinationLine>* out, std::string* error);
bool parse_hash_by(std::string_view text, config::HashPolicy* out, std::string* error);
// Appends a cipher suite of TLS 1.2 to a list of them ("A:B"). False: it is not offered.
bool add_cipher(std::string_view name, std::string* list, std::string* error);
bool parse_url(std::string_view text, std::string* scheme, std::string* host, std::string* path);
// sluice.io/filters
bool parse_filters(std::string_view text, std::vector<FilterOptions>* out, std::string* error);

// sluice.io/upstream: a YAML map of UpstreamPolicy's fields.
bool parse_upstream(std::string_view text, std::shared_ptr<const UpstreamPolicy>* out, std::string* error);

}  // namespace sluice::compile
