// Each annotation: values, errors, prefixes; and what becomes of them on a route.

#include "compile/annotations.h"

#include <gtest/gtest.h>
#include <re2/re2.h>

#include "compile/annotation_values.h"
#include "compile/filter_config.h"
#include "compile/test_support.h"

namespace sluice::compile {
namespace {

using namespace test;

struct Parsed {
  IngressOptions options;
  std::string messages;
};

// Items are "key", "value", … with full keys.
Parsed parse(const std::vector<std::pair<std::string, std::string>>& annotations) {
  resource::Ingress ingress;
  ingress.meta.ns = "ns";
  ingress.meta.name = "a";
  for (const auto& [key, value] : annotations) ingress.meta.annotations.push_back({key, value, {1, 2}});
  std::sort(ingress.meta.annotations.begin(), ingress.meta.annotations.end(),
            [](auto& a, auto& b) { return a.key < b.key; });
  Parsed out;
  resource::Diagnostics diagnostics;
  out.options = parse_annotations(ingress, false, diagnostics);
  out.messages = World::show(diagnostics);
  return out;
}
IngressOptions options(const std::vector<std::pair<std::string, std::string>>& annotations) {
  Parsed out = parse(annotations);
  EXPECT_EQ(out.messages, "");
  return out.options;
}

std::string text(const plugins::ConfigNode& node) {
  std::string out;
  if (node.is_scalar()) return node.text();
  for (const auto& item : node.items()) out += (out.empty() ? "" : ",") + text(item);
  if (node.is_list()) return "[" + out + "]";
  for (const auto& [key, value] : node.entries()) out += (out.empty() ? "" : ",") + key + ":" + text(value);
  return "{" + out + "}";
}
// "name{config} name{config}"
std::string filters(const IngressOptions& options, config::PathMatch::Kind kind = config::PathMatch::Kind::kPrefix,
                    const std::string& path = "/p") {
  config::PathMatch match;
  match.kind = kind;
  match.text = path;
  std::string out;
  for (const FilterSpec& spec : route_filters(options, {match}))
    out += (out.empty() ? "" : " ") + spec.name + text(spec.config);
  return out;
}

TEST(Annotations, Prefixes) {
  const std::string nginx = "nginx.ingress.kubernetes.io/", higress = "higress.io/";
  EXPECT_EQ(options({{nginx + "upstream-vhost", "n"}, {higress + "upstream-vhost", "h"}}).upstream_vhost, "n");
  EXPECT_EQ(options({{higress + "upstream-vhost", "h"}}).upstream_vhost, "h");
  Parsed fallback = parse({{nginx + "use-regex", "maybe"}, {higress + "use-regex", "true"}});
  EXPECT_TRUE(fallback.options.use_regex) << "an invalid value gives way to the other prefix";
  EXPECT_EQ(fallback.messages,
            "Ingress ns/a: metadata.annotations[nginx.ingress.kubernetes.io/use-regex]: \"maybe\" "
            "is not true or false\n");
  EXPECT_EQ(parse({{nginx + "timeout", "5"}}).options.timeout_seconds, 0);
  EXPECT_EQ(parse({{nginx + "timeout", "5"}}).messages,
            "warning: Ingress ns/a: metadata.annotations[nginx.ingress.kubernetes.io/timeout]: is "
            "not read with this prefix; "
            "write higress.io/timeout\n");
  EXPECT_EQ(parse({{nginx + "no-such-thing", "x"}}).messages,
            "warning: Ingress ns/a: "
            "metadata.annotations[nginx.ingress.kubernetes.io/no-such-thing]: is not supported "
            "and has no effect\n");
  EXPECT_EQ(parse({{higress + "upstream-vhost", "  \n "}}).messages,
            "warning: Ingress ns/a: metadata.annotations[higress.io/upstream-vhost]: is empty and "
            "has no effect\n");
  EXPECT_EQ(parse({{"other.io/thing", "x"}}).messages, "");
}

TEST(Annotations, Errors) {
  struct Case {
    const char* key;
    const char* value;
    const char* want;
  } cases[] = {
      {"timeout", "5s", "\"5s\" is not a whole number"},
      {"timeout", " 5", "\" 5\" is not a whole number"},
      {"timeout", "-1", "\"-1\" is not a number of seconds"},
      {"use-regex", "yes", "\"yes\" is not true or false"},
      {"temporal-redirect", "ftp://x", "\"ftp://x\" is not an http or https URL"},
      {"permanent-redirect", "/x", "\"/x\" is not an http or https URL"},
      {"permanent-redirect-code", "300", "\"300\" is not one of 301, 302, 303, 307, 308; 301 is used"},
      {"backend-protocol", "FCGI", "\"FCGI\" is not one of HTTP, HTTP2, HTTPS, GRPC, GRPCS; HTTP is used"},
      {"load-balance", "ip_hash",
       "\"ip_hash\" is not one of round_robin, random, least_conn, least_request, ewma, passthrough, "
       "mcp-sse; least_request is used"},
      {"load-balance", "mcp-sse", "\"mcp-sse\" has no meaning here; least_request is used"},
      {"upstream-hash-by", "host",
       "\"host\" is not made of variables such as $request_uri, $host, $remote_addr, $http_<header>, "
       "$arg_<parameter>; round robin is used"},
      {"session-cookie-max-age", "-1", "\"-1\" is not a number of seconds"},
      {"ssl-cipher", "RC4:ECDHE-RSA-AES128-GCM-SHA256",
       "\"RC4\" is ignored: it is not a cipher suite of TLS 1.2 with ECDHE and AEAD"},
      {"proxy-ssl-verify", "true", "\"true\" is not on or off"},
      {"match-method", "GET FOO",
       "\"FOO\" is ignored: it is not one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, "
       "TRACE, PATCH"},
      {"cors-allow-origin", "*.a.b", "\"*.a.b\" is ignored: a wildcard is written scheme://*.domain"},
      {"request-header-control-add", "x",
       "the line \"x\" is ignored: it has no value; write name and value separated by a space"},
      {"request-header-control-add", "x(y) 1", "the line \"x(y) 1\" is ignored: \"x(y)\" is not a header name"},
      {"request-header-control-remove", "a, b c", "\"b c\" is ignored: it is not a header name"},
      {"regex-match-header-x", "(", "\"(\" is not a regular expression (RE2): missing ): ("},
      {"canary-by-header", "a b", "\"a b\" is not a header name"},
      {"canary-by-header-value", "(", "\"(\" is not a regular expression (RE2): missing ): ("},
      {"canary-by-header-pattern", "[", "\"[\" is not a regular expression (RE2): missing ]: ["},
      {"canary-by-cookie", "a;b", "\"a;b\" is not a cookie name"},
      {"canary-weight", "-1", "\"-1\" is not in 0..2147483647"},
      {"canary-weight", "5%", "\"5%\" is not a whole number"},
      {"canary-weight-total", "0", "\"0\" is not in 1..2147483647"},
      {"whitelist-source-range", "1.2.3",
       "\"1.2.3\" is not an IP address or a network such as 10.0.0.0/8; the Ingress's routes answer 503"},
      {"whitelist-source-range", "1.2.3, 10.0.0.0/8",
       "\"1.2.3\" is not an IP address or a network such as 10.0.0.0/8; the entry is ignored"},
      {"denylist-source-range", "10.0.0.0/8, x",
       "\"x\" is not an IP address or a network such as 10.0.0.0/8; the Ingress's routes answer 503"},
      {"auth-type", "digest", "\"digest\" is not supported; write basic; the Ingress's routes answer 503"},
      {"auth-secret", "a/b/c",
       "\"a/b/c\" is not a Secret: write name or namespace/name; the Ingress's routes answer 503"},
      {"auth-secret-type", "file", "\"file\" is not one of auth-file, auth-map; the Ingress's routes answer 503"},
      {"auth-tls-secret", "?", "\"?\" is not a Secret: write name or namespace/name; the Ingress's routes answer 503"},
      {"default-backend", "a/b/c", "\"a/b/c\" is not a Service: write name or namespace/name"},
      {"custom-http-errors", "404,x", "\"x\" is ignored: it is not a status code"},
      {"custom-http-errors", "302", "\"302\" is ignored: it is not an error; 503 is used"},
      {"mirror-target-service", "svc:http", "\"http\" is not a port; the Service's first port is used"},
      {"mirror-target-service", "a b", "\"a b\" is not a Service: write name or namespace/name"},
      {"mirror-target-fqdn", "a b", "\"a b\" is not the name of a service such as x.static"},
      {"mirror-target-fqdn-port", "0", "\"0\" is not in 1..65535"},
      {"mirror-percentage", "x", "\"x\" is not a whole number"},
      {"rpc-destination-name", "x", "has no effect yet: requests go to the service as plain HTTP"},
      {"mcp-server", "true", "has no effect yet: the Ingress is served as an ordinary route"},
      {"mcp-server-match-rule-type", "glob", "\"glob\" is not one of exact, prefix, suffix, contains, regex"},
      {"mcp-server-upstream-type", "x", "\"x\" is not one of rest, sse, streamable"},
      {"exact-match-header-", "x", "the key names no header or parameter"},
      {"exact-match-pseudo-header-host", "x", "\"host\" is not one of authority, path, method, scheme"},
  };
  for (const Case& c : cases) {
    std::string got = parse({{std::string("higress.io/") + c.key, c.value}}).messages;
    EXPECT_NE(got.find(std::string(c.key) + "]: " + c.want), std::string::npos) << c.key << "=" << c.value << "\n"
                                                                                << got;
  }
}

TEST(Annotations, Filters) {
  EXPECT_EQ(
      filters(options({{"sluice.io/filters", "- name: fault\n  config: {abort: {status: 503}}\n- {name: cors}\n"}})),
      "fault{abort:{status:503}} cors{}");
  struct Case {
    const char* value;
    const char* want;
  } cases[] = {
      {"{", "line 2 of the value: syntax error"},
      {"name: x", "expected a list of {name, config}, found a mapping"},
      {"- config: {}", "item 0 needs a name"},
      {"- {name: x, conf: {}}", "item 0 has the unknown field \"conf\"; known are name and config"},
  };
  for (const Case& c : cases) {
    EXPECT_NE(parse({{"sluice.io/filters", c.value}}).messages.find(c.want), std::string::npos)
        << parse({{"sluice.io/filters", c.value}}).messages;
  }
}

TEST(Annotations, NativePluginsAcceptWhatAnnotationsSay) {
  World world;
  std::string told = world.put(
      "f",
      service("svc") +
          ingress("a", "h", path("/p") + path("/e", "Exact"),
                  note("higress.io/enable-cors", "true") + note("higress.io/cors-allow-origin", "https://*.a.b") +
                      note("higress.io/cors-expose-headers", "X-A, X-B") + note("higress.io/route-limit-rpm", "10") +
                      note("higress.io/request-header-control-add", "x-a 1") +
                      note("higress.io/request-header-control-update", "x-b 1") +
                      note("higress.io/response-header-control-remove", "x-c") +
                      note("higress.io/upstream-vhost", "v.example") + note("higress.io/rewrite-path", "/x")));
  EXPECT_EQ(told, "");
  for (const char* request : {"http://h/p", "http://h/e"}) {
    std::string names;
    for (const auto& filter : world.route(request)->filters) names += std::string(filter->name()) + " ";
    EXPECT_EQ(names, "cors local-rate-limit header-control rewrite ");
  }
  for (const char* target : {"/x", "/", "/x/"}) {
    EXPECT_EQ(world.put("f", service("svc") +
                                 ingress("a", "h", path("/p") + path("/"), note("higress.io/rewrite-target", target))),
              "");
    EXPECT_EQ(world.put("f", service("svc") +
                                 ingress("a", "h", path("/p") + path("/"), note("higress.io/rewrite-path", target))),
              "");
  }
}

TEST(Annotations, UnknownFilterIsTold) {
  World world;
  EXPECT_NE(
      world.put("f", ingress("a", "h", path("/") + path("/b"), note("sluice.io/filters", "[{name: no-such-thing}]")))
          .find("f:7:24: Ingress default/a: metadata.annotations[sluice.io/filters]: filter "
                "no-such-thing: there is no native plugin "
                "of this name\n"),
      std::string::npos);
  EXPECT_EQ(world.winner("http://h/"), "default/a");
}

TEST(Annotations, HeaderControl) {
  Parsed parsed = parse({{"higress.io/request-header-control-add", "X-A 1\nX-C \"a; b\"\nX-A '2'\n"},
                         {"higress.io/request-header-control-update", "U 1"},
                         {"higress.io/request-header-control-remove", "R1, host"},
                         {"higress.io/response-header-control-remove", "R3"}});
  EXPECT_EQ(parsed.messages, "");
  EXPECT_EQ(filters(parsed.options),
            "header-control{request:{remove:[r1],update:[{name:u,value:1}],add:[{name:x-c,value:a; "
            "b},{name:x-a,value:2}]},response:{remove:[r3]}}");
  EXPECT_EQ(filters(options({{"higress.io/request-header-control-update", "Host x.y"},
                             {"higress.io/request-header-control-add", "host z"}})),
            "rewrite{host:x.y}");
}

TEST(Annotations, Cors) {
  EXPECT_EQ(filters(options({{"higress.io/enable-cors", "false"}, {"higress.io/cors-max-age", "5"}})), "");
  EXPECT_EQ(filters(options({{"higress.io/enable-cors", "true"}})),
            "cors{allow_origins:[*],allow_credentials:true,max_age:1728000}");
  EXPECT_EQ(filters(options({{"higress.io/enable-cors", "true"},
                             {"higress.io/cors-allow-origin", "http://a.b, https://*.c.d:80"},
                             {"higress.io/cors-allow-methods", "GET, PUT"},
                             {"higress.io/cors-allow-headers", "X"},
                             {"higress.io/cors-expose-headers", "Y , Z"},
                             {"higress.io/cors-allow-credentials", "false"},
                             {"higress.io/cors-max-age", "5"}})),
            "cors{allow_origins:[http://a.b,https://"
            "*.c.d:80],allow_methods:[GET,PUT],allow_headers:[X],expose_headers:[Y,Z],"
            "allow_credentials:false,max_age:5}");
}

TEST(Annotations, RateLimit) {
  EXPECT_EQ(filters(options({{"higress.io/route-limit-rps", "10"}})),
            "local-rate-limit{max_tokens:50,tokens_per_fill:10,fill_interval_ms:1000}");
  EXPECT_EQ(filters(options({{"higress.io/route-limit-rps", "10"},
                             {"higress.io/route-limit-rpm", "7"},
                             {"higress.io/route-limit-burst-multiplier", "3"}})),
            "local-rate-limit{max_tokens:21,tokens_per_fill:7,fill_interval_ms:60000}");
  EXPECT_EQ(filters(options({{"higress.io/route-limit-rps", "0"}})), "");
}

// What a rewrite does to a path, by the plugin's documentation.
std::string rewritten(const IngressOptions& options, config::PathMatch::Kind kind, const std::string& pattern,
                      std::string path) {
  config::PathMatch match;
  match.kind = kind;
  match.text = pattern;
  for (const FilterSpec& spec : route_filters(options, {match})) {
    const auto* rule = spec.config.find("path");
    if (!rule) continue;
    std::string to = rule->find("replacement")->text();
    if (const auto* regex = rule->find("regex")) {
      re2::RE2::GlobalReplace(&path, regex->text(), to);
    } else if (const auto* literal = rule->find("literal")) {
      for (size_t at = 0; (at = path.find(literal->text(), at)) != path.npos; at += to.size()) {
        path.replace(at, literal->text().size(), to);
      }
    } else if (const auto* prefix = rule->find("prefix")) {
      path = to + path.substr(prefix->text().size());
    } else {
      path = to;
    }
  }
  return path;
}

TEST(Annotations, Rewrites) {
  using K = config::PathMatch::Kind;
  struct Case {
    const char* key;
    const char* target;
    K kind;
    const char* pattern;
    const char* path;
    const char* want;
  } cases[] = {
      {"rewrite-target", "/x", K::kExact, "/p", "/p", "/x"},
      {"rewrite-target", "/x", K::kPrefix, "/p", "/p/y", "/x/y"},
      {"rewrite-target", "/x", K::kPrefix, "/p", "/p/y/p", "/x/y/x"},
      {"rewrite-target", "/", K::kPrefix, "/p", "/p/y", "//y"},
      {"rewrite-target", "/app", K::kPrefix, "", "/x", "/appx"},
      {"rewrite-target", "/$1", K::kPrefixRegex, "/svc/(.*)", "/svc/foo", "/foo"},
      {"rewrite-target", "/x", K::kPrefixRegex, "/v1.0", "/v1.0/y", "/x"},
      {"rewrite-target", "/b/$2/$1", K::kFullRegex, "/a/(\\w+)/(\\w+)", "/a/x/y", "/b/y/x"},
      {"rewrite-path", "/x", K::kExact, "/p", "/p", "/x"},
      {"rewrite-path", "/x", K::kPrefix, "/p", "/p", "/x"},
      {"rewrite-path", "/x", K::kPrefix, "/p", "/p/y", "/x/y"},
      {"rewrite-path", "/x/", K::kPrefix, "/p", "/p", "/x/"},
      {"rewrite-path", "/x/", K::kPrefix, "/p", "/p/y", "/x/y"},
      {"rewrite-path", "/x", K::kPrefix, "", "/y", "/x/y"},
      {"rewrite-path", "/", K::kPrefix, "/p", "/p/y", "/y"},
      {"rewrite-path", "/$1", K::kPrefixRegex, "/svc/(.*)", "/svc/foo", "/$1"},
      {"rewrite-path", "/a\\1", K::kFullRegex, "/(.*)", "/b", "/a\\1"},
      {"rewrite-path", "/x", K::kPrefix, "/p.q", "/p.q/y", "/x/y"},
  };
  for (const Case& c : cases) {
    IngressOptions o = options({{std::string("higress.io/") + c.key, c.target}});
    EXPECT_EQ(rewritten(o, c.kind, c.pattern, c.path), c.want)
        << c.key << " " << c.target << " " << c.pattern << " " << c.path;
  }
  EXPECT_EQ(filters(options({{"higress.io/upstream-vhost", "v"},
                             {"higress.io/rewrite-target", "/t"},
                             {"higress.io/rewrite-path", "/p2"}})),
            "rewrite{host:v,path:{prefix:/p,replacement:/p2}}");
}

TEST(Annotations, Order) {
  EXPECT_EQ(filters(options({{"higress.io/enable-cors", "true"},
                             {"higress.io/cors-allow-headers", "X"},
                             {"higress.io/route-limit-rps", "1"},
                             {"sluice.io/filters", "[{name: fault}]"},
                             {"higress.io/request-header-control-remove", "x"},
                             {"higress.io/upstream-vhost", "v"}})),
            "cors{allow_origins:[*],allow_headers:[X],allow_credentials:true,max_age:1728000} "
            "local-rate-limit{max_tokens:5,tokens_per_fill:1,fill_interval_ms:1000} fault{} "
            "header-control{request:{remove:[x]}} rewrite{host:v}");
}

TEST(Annotations, Redirects) {
  World world;
  auto redirect = [&](const std::string& annotations) {
    world.put("f", ingress("a", "h", path("/"), annotations));
    auto r = world.route("http://h/")->redirect;
    return r ? std::to_string(r->status) + " " + r->scheme + " " + r->host + " " + r->path +
                   (r->https_only_on_plaintext ? " plaintext" : "")
             : "-";
  };
  EXPECT_EQ(redirect(note("higress.io/temporal-redirect", "http://bar.com")), "302 http bar.com ");
  EXPECT_EQ(redirect(note("higress.io/permanent-redirect", "https://bar.com:8443/x/y?q#f")),
            "301 https bar.com:8443 /x/y");
  EXPECT_EQ(redirect(note("higress.io/permanent-redirect", "https://bar.com") +
                     note("higress.io/permanent-redirect-code", "308")),
            "308 https bar.com ");
  EXPECT_EQ(redirect(note("higress.io/permanent-redirect", "https://bar.com") +
                     note("higress.io/permanent-redirect-code", "304")),
            "301 https bar.com ");
  EXPECT_EQ(
      redirect(note("higress.io/temporal-redirect", "http://a") + note("higress.io/permanent-redirect", "http://b")),
      "302 http a ");
  EXPECT_EQ(redirect(note("higress.io/temporal-redirect", "nope") + note("higress.io/permanent-redirect", "http://b")),
            "301 http b ");
  EXPECT_EQ(redirect(note("higress.io/ssl-redirect", "true")), "308 https   plaintext");
  EXPECT_EQ(redirect(note("higress.io/force-ssl-redirect", "true") + note("higress.io/ssl-redirect", "false")),
            "308 https   plaintext");
  EXPECT_EQ(redirect(note("higress.io/ssl-redirect", "true") + note("higress.io/temporal-redirect", "http://a")),
            "302 http a ");
  EXPECT_EQ(redirect(note("higress.io/permanent-redirect-code", "308")), "-");
}

TEST(Annotations, Retries) {
  World world;
  auto retry = [&](const std::string& annotations) {
    world.put("f", ingress("a", "h", path("/"), annotations));
    return world.route("http://h/")->retry;
  };
  using R = config::RetryPolicy;
  EXPECT_EQ(retry(""), nullptr);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream-tries", "5"))->max_retries, 5u);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream-tries", "5"))->on, R::kOn5xx);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream-tries", "-1"))->max_retries, 0u);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream-timeout", "2"))->per_try_timeout.count(), 2000);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream-timeout", "2"))->max_retries, 3u);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream", "off"))->max_retries, 0u);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream", "http_502,http_404 junk"))->on, R::kOnStatus);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream", "http_502,http_404"))->statuses,
            (std::vector<uint16_t>{502, 404}));
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream", "error non_idempotent"))->on, R::kOn5xx | R::kNonIdempotent);
  EXPECT_EQ(retry(note("higress.io/proxy-next-upstream", "junk"))->on, R().on);
}

TEST(Annotations, MethodsAndTimeout) {
  World world;
  world.put("f", ingress("a", "h", path("/"),
                         note("higress.io/match-method", "post PUT POST") + note("higress.io/timeout", "7")));
  EXPECT_EQ(world.winner("GET http://h/"), "-");
  EXPECT_EQ(world.winner("POST http://h/"), "default/a");
  EXPECT_EQ(world.route("PUT http://h/")->methods, (std::vector<std::string>{"POST", "PUT"}));
  EXPECT_EQ(world.route("PUT http://h/")->timeout.count(), 7000);
  world.put("f", ingress("a", "h", path("/"), note("higress.io/match-method", "FOO")));
  EXPECT_EQ(world.winner("GET http://h/"), "default/a") << "no valid method is no condition";
}

TEST(Values, ParseBool) {
  for (const char* yes : {"1", "t", "T", "TRUE", "true", "True"}) {
    bool out = false;
    std::string error;
    EXPECT_TRUE(parse_bool(yes, &out, &error) && out) << yes;
  }
  for (const char* bad : {"", "yes", "on", " true", "tRue"}) {
    bool out;
    std::string error;
    EXPECT_FALSE(parse_bool(bad, &out, &error)) << bad;
  }
}

TEST(Values, TrimLines) { EXPECT_EQ(trim_lines("  a \n\t b\r\n"), "a\nb\n"); }

}  // namespace
}  // namespace sluice::compile
