#include "compile/nginx_snippet.h"

#include <gtest/gtest.h>

#include "compile/nginx_config.h"

namespace sluice::compile {
namespace {

std::string words(const std::vector<NginxDirective>& list) {
  std::string out;
  for (const NginxDirective& item : list) {
    out += std::to_string(item.line);
    for (const std::string& word : item.words) out += "|" + word;
    if (item.has_block) out += "{" + words(item.block) + "}";
    out += ";";
  }
  return out;
}

std::string parsed(std::string_view text) {
  auto result = parse_nginx_config(text);
  return result ? words(*result) : result.error().message;
}

TEST(NginxConfig, Words) {
  EXPECT_EQ(parsed("a b;\n# no\nc \"d e\" 'f\"' ; g { h; }"), "1|a|b;3|c|d e|f\";3|g{3|h;};");
  EXPECT_EQ(parsed("a ${b}c;"), "1|a|${b}c;");
  EXPECT_EQ(parsed("a \"x\\\"y\" \\.z;"), "1|a|x\"y|\\.z;");
  EXPECT_EQ(parsed(""), "");
}

TEST(NginxConfig, Errors) {
  EXPECT_EQ(parsed("a"), "line 1: the last directive is not ended by ;");
  EXPECT_EQ(parsed("\na {"), "line 2: a block is not closed by }");
  EXPECT_EQ(parsed("}"), "line 1: } closes no block");
  EXPECT_EQ(parsed(";"), "line 1: expected a directive, found ;");
  EXPECT_EQ(parsed("a \"b"), "line 1: a text in quotes is not closed");
  EXPECT_EQ(parsed("a{a{a{a{a{a;}}}}}"), "line 1: blocks are nested too deeply");
  EXPECT_NE(parsed(std::string(70'000, ' ')).find("64 KiB"), std::string::npos);
}

std::string shown(std::string_view text) {
  const NginxSnippet snippet = translate_nginx_snippet(text);
  std::string out;
  for (const auto& step : snippet.steps.items()) {
    for (const auto& [key, value] : step.entries()) out += key + "=" + value.text() + " ";
    out += "\n";
  }
  for (const std::string& problem : snippet.problems) out += "! " + problem + "\n";
  if (!snippet.lost_guard.empty()) out += "closed\n";
  return out;
}

TEST(NginxSnippet, Translates) {
  EXPECT_EQ(shown("more_set_headers \"X-A: 1\" 'X-B:';"),
            "action=set_response_header name=X-A value=1 \naction=set_response_header name=X-B \n");
  EXPECT_EQ(
      shown("if ($request_method !~* \"^(GET|HEAD)$\") { return 405; }"),
      "subject=$request_method comparison=no_match operand=^(GET|HEAD)$ ignore_case=true action=return status=405 \n");
  EXPECT_EQ(shown("if ($http_x = \"\") { return 403 no; }"),
            "subject=$http_x comparison=equal operand= action=return value=no status=403 \n");
  EXPECT_EQ(shown("if ( $arg_a ) { rewrite ^/a/(.*)$ /b/$1 last; }"),
            "subject=$arg_a comparison=not_empty operand= action=rewrite name=^/a/(.*)$ value=/b/$1 flag=break \n");
  EXPECT_EQ(shown("location ~ /\\.git { deny all; }"),
            "subject=$uri comparison=match operand=/\\.git action=deny value=all \n");
}

TEST(NginxSnippet, SaysWhatItCannot) {
  EXPECT_EQ(shown("\nproxy_cache x;\nadd_header A $upstream_status;"),
            "! line 2: proxy_cache can't be translated\n! line 3: add_header can't be translated: value: "
            "\"$upstream_status\" is not a variable that is known here, such as $host, $request_uri, $scheme or "
            "$http_<header>\n");
  EXPECT_EQ(shown("deny nonsense;").find("! line 1: deny can't be translated: value: \"nonsense\""), 0u);
}

TEST(NginxSnippet, WhatGuardsCloses) {
  for (const char* text : {"deny nonsense;", "auth_basic x;", "satisfy any;", "if ($ssl_cipher = x) { return 403; }",
                           "if (-f x) { return 404; }", "location / { location /a { deny all; } }", "deny all"}) {
    EXPECT_NE(shown(text).find("closed"), std::string::npos) << text;
  }
  for (const char* text : {"deny all;", "proxy_cache x;", "if (-f x) { add_header a b; }"}) {
    EXPECT_EQ(shown(text).find("closed"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace sluice::compile
