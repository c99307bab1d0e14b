#include "plugins/client_certificate/filter.h"

#include <re2/re2.h>

#include "http/stream.h"
#include "plugins/state_factory.h"
#include "plugins/variables.h"

namespace sluice::plugins::client_certificate {
namespace {

constexpr std::string_view kCertificate = "ssl-client-cert", kVerify = "ssl-client-verify",
                           kSubject = "ssl-client-subject-dn", kIssuer = "ssl-client-issuer-dn";

struct State {
  explicit State(const Config& c) : config(c), error_page(*VariableTemplate::parse(c.error_page)) {
    if (!c.match_subject.empty()) subject = std::make_unique<const re2::RE2>(c.match_subject, re2::RE2::Quiet);
  }
  const Config config;
  const VariableTemplate error_page;
  std::unique_ptr<const re2::RE2> subject;  // null: any
};

class ClientCertificate final : public filter::Filter {
 public:
  explicit ClientCertificate(const State& state) : state_(state) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    const http::ConnectionInfo& connection = context.connection();
    const http::ClientCertificate* certificate = connection.client_certificate.get();
    http::HeaderMap& headers = context.request().headers;
    // Nobody else may say these.
    for (std::string_view name : {kCertificate, kVerify, kSubject, kIssuer}) headers.remove(name);
    if (connection.tls) {
      if (!certificate && state_.config.required) return refuse(context, "client_certificate_missing");
      if (certificate && !certificate->problem.empty() && state_.config.verified) {
        return refuse(context, "client_certificate_not_verified");
      }
    }
    if (state_.subject) {
      const std::string_view subject = certificate ? std::string_view(certificate->subject) : std::string_view();
      if (!certificate || !re2::RE2::PartialMatch(re2::StringPiece(subject.data(), subject.size()), *state_.subject)) {
        context.send_local_reply(
            {.status = 403, .body = "client certificate unauthorized", .details = "client_certificate_unauthorized"});
        return filter::Status::kPause;
      }
    }
    if (!certificate) {
      headers.add(kVerify, "NONE");
      return filter::Status::kContinue;
    }
    headers.add(kVerify, certificate->problem.empty() ? std::string_view("SUCCESS")
                                                      : context.arena().concat("FAILED:", certificate->problem));
    headers.add(kSubject, context.arena().copy(certificate->subject));
    headers.add(kIssuer, context.arena().copy(certificate->issuer));
    if (state_.config.pass_certificate) headers.add(kCertificate, context.arena().copy(certificate->escaped_pem));
    return filter::Status::kContinue;
  }

 private:
  filter::Status refuse(filter::Context& context, std::string_view details) {
    if (state_.error_page.empty()) {
      context.send_local_reply({.status = 400, .body = "a valid client certificate is required", .details = details});
      return filter::Status::kPause;
    }
    const std::string_view location = encode_target(state_.error_page.render(context), context.arena());
    context.send_local_reply(
        {.status = 302, .details = details},
        [](http::HeaderMap& headers, const void* to) {
          headers.add(http::HeaderId::kLocation, *static_cast<const std::string_view*>(to));
        },
        &location);
    return filter::Status::kPause;
  }

  const State& state_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  return parse_state<ClientCertificate, State>("client-certificate", schema(), node);
}

}  // namespace

Plugin plugin() {
  return {"client-certificate", parse, "Says what a client's certificate must be, and tells the upstream of it.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::client_certificate
