#include "plugins/header_control/config.h"

#include "plugins/message_edit.h"

namespace sluice::plugins::header_control {
namespace {

std::string check_name(std::string& value) {
  if (value.starts_with(':') && value.size() > 1) {
    std::string rest = value.substr(1);
    std::string message = check_header_name(rest);
    value = ":" + rest;
    return message;
  }
  std::string message = check_header_name(value);
  if (message.empty() && is_framing_field(value)) {
    return in_quotes(value) + " can't be edited: it frames the message or belongs to one connection";
  }
  return message;
}

const Schema<Edit>& edit_schema() {
  static const Schema<Edit> kSchema =
      Schema<Edit>()
          .text("name", &Edit::name, "Name of the field, in any case.", check_name)
          .required()
          .text("value", &Edit::value, "Its value, in which operators such as `%REQ(x-user)%` are replaced.",
                check_header_value)
          .required();
  return kSchema;
}

const Schema<Edits>& edits_schema() {
  static const Schema<Edits> kSchema =
      Schema<Edits>()
          .list("remove", &Edits::remove, "Names of fields to take away; `host` and pseudo-header fields stay.",
                check_name)
          .objects("update", &Edits::update, edit_schema(), "Fields to set: all of that name give way to the one.")
          .objects("add", &Edits::add, edit_schema(), "Fields to append to those of that name.");
  return kSchema;
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .object("request", &Config::request, edits_schema(), "Edits of the request on its way to the upstream.")
          .object("response", &Config::response, edits_schema(), "Edits of the response on its way to the client.");
  return kSchema;
}

}  // namespace sluice::plugins::header_control
