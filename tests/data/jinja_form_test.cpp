#include "src/data/jinja_form.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

TEST(JinjaForm, forgets_what_jinja_ignores) {
  const std::string form =
      jinja_form("{% if a == 'b' %}{{ 'x\\n' + message['role'] }}y{% endif %}");
  EXPECT_EQ(form, "%if a=='b'\x1F=x\n\x1F$message['role']\x1F=y\x1F%endif\x1F");
  EXPECT_EQ(jinja_form("{%if  a==\"b\"%}{{\"x\\n\"}}{{- message.role }}{{ 'y' }}{% endif %}\n"),
            form);
  EXPECT_EQ(jinja_form("{% if a == 'b' -%}\n  x\n{{ message . role }}y{% endif %}") == form, false);
}

TEST(JinjaForm, applies_white_space_control_as_transformers_sets_it) {
  EXPECT_EQ(jinja_form("{% a %}\n  {% b %}x"), "%a\x1F%b\x1F=x\x1F");
  EXPECT_EQ(jinja_form("x  {% b %}"), "=x  \x1F%b\x1F");
  EXPECT_EQ(jinja_form("x  {%- b -%}  \n y"), "=x\x1F%b\x1F=y\x1F");
  EXPECT_EQ(jinja_form("{{ a }}\n b"), "$a\x1F=\n b\x1F");
  EXPECT_EQ(jinja_form("{# a '#}\nx\n"), "=x\x1F");
  EXPECT_EQ(jinja_form("x\n  {%+ b %}"), "=x\n  \x1F%b\x1F");
}

TEST(JinjaForm, keeps_what_makes_a_difference) {
  EXPECT_NE(jinja_form("{{ a + b }}"), jinja_form("{{ a ~ b }}"));
  EXPECT_NE(jinja_form("{{ 'a b' }}"), jinja_form("{{ 'ab' }}"));
  EXPECT_NE(jinja_form("{{ message['content'] | trim }}"), jinja_form("{{ message['content'] }}"));
  EXPECT_EQ(jinja_form("{{ f('+' + a) + '}}' }}"), "$f('+'+a)\x1F=}}\x1F");
  EXPECT_NE(jinja_form("{% not a %}"), jinja_form("{% nota %}"));
}

TEST(JinjaForm, refuses_what_is_not_closed) {
  EXPECT_EQ(formats::sentence_of<base::ContentError>([] { (void)jinja_form("x{% if"); }),
            "chat template: a tag that begins at character 1 is not closed");
  EXPECT_THROW((void)jinja_form("{{ 'x }}"), base::ContentError);
}

}  // namespace
}  // namespace dfmoa::data
