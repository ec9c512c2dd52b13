#include "src/base/fields.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

using namespace dfmoa::base;

namespace {

struct Sample {
  std::int64_t steps = 40;
  double rate = 2e-4;
  bool check = false;
  std::string kind = "softmax";
  std::vector<std::string> sites{"q", "v"};
  void fields(FieldList& list) {
    list.add("steps", steps, "optimiser steps").range(1, 100);
    list.add("rate", rate, "learning rate").range(0, 1);
    list.add("check", check, "check every step");
    list.add("kind", kind, "router").one_of({"softmax", "topk"});
    list.add("sites", sites, "adapted linears");
  }
};

std::string message_of(const std::string& key, const std::string& value) {
  Sample sample;
  auto list = FieldList::of(sample);
  try {
    list.assign("train", key, value);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST(Fields, every_type_reads_back_what_it_prints) {
  Sample sample;
  auto list = FieldList::of(sample);
  list.assign("train", "steps", "7");
  list.assign("train", "rate", "0.125");
  list.assign("train", "check", "true");
  list.assign("train", "kind", "topk");
  list.assign("train", "sites", "o, up");
  EXPECT_EQ(sample.sites, (std::vector<std::string>{"o", "up"}));
  std::string all;
  for (const auto& field : list.all()) all += field.name() + "=" + field.value() + ";";
  EXPECT_EQ(all, "steps=7;rate=0.125;check=true;kind=topk;sites=o, up;");
}

TEST(Fields, refusals_name_key_value_and_expectation) {
  EXPECT_EQ(message_of("steps", "0"),
            "configuration train.steps = 0: expected a number from 1 to 100");
  EXPECT_EQ(message_of("steps", "4x"), "configuration train.steps = 4x: expected a whole number");
  EXPECT_EQ(message_of("rate", "nan"), "configuration train.rate = nan: expected a finite number");
  EXPECT_EQ(message_of("check", "yes"), "configuration train.check = yes: expected true or false");
  EXPECT_EQ(message_of("kind", "x"), "configuration train.kind = x: expected one of softmax, topk");
}

TEST(Fields, unknown_key_names_the_nearest) {
  EXPECT_EQ(message_of("step", "1"),
            "configuration key train.step is unknown: the nearest is train.steps");
}
