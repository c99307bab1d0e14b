#include "source/directory.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "source/files.h"

namespace sluice::source {
namespace {

namespace fs = std::filesystem;

uint64_t now_ms() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

struct DirectoryTest : ::testing::Test {
  DirectoryTest() {
    char name[] = "/tmp/directory_test.XXXXXX";
    top = mkdtemp(name);
    root = top + "/conf";
    fs::create_directory(root);
  }
  ~DirectoryTest() override {
    directory.reset();
    fs::remove_all(top);
  }

  void write(const std::string& path, const std::string& text = "x") { std::ofstream(top + "/" + path) << text; }
  void open(const std::string& path) {
    auto opened = Directory::open(path);
    ASSERT_TRUE(opened) << opened.error().message;
    directory = std::move(*opened);
  }
  void open() { open(root); }

  // What is reported within `ms`, as "+a.yaml -b.yaml"; ends early once `expected` is complete.
  std::string changes(int ms = 200, const std::string& expected = {}) {
    std::set<std::string> out;
    uint64_t end = now_ms() + static_cast<uint64_t>(ms);
    std::string text;
    while (now_ms() < end) {
      pollfd p{directory->fd(), POLLIN, 0};
      poll(&p, 1, 1);
      directory->on_readable(now_ms());
      if (auto due = directory->deadline(); due && *due <= now_ms()) {
        auto batch = directory->take(now_ms());
        for (const auto& f : batch.changed) out.insert("+" + f.substr(top.size() + 1));
        for (const auto& f : batch.removed) out.insert("-" + f.substr(top.size() + 1));
      }
      text.clear();
      for (const auto& entry : out) text += (text.empty() ? "" : " ") + entry;
      if (!expected.empty() && text == expected) break;
    }
    return text;
  }
  std::string files() {
    std::string text;
    for (const auto& f : directory->files()) text += (text.empty() ? "" : " ") + f.substr(top.size() + 1);
    return text;
  }

  std::string top, root;
  std::unique_ptr<Directory> directory;
};

TEST(Files, ManifestNames) {
  for (const char* good : {"a.yaml", "a.yml", "a.json", "A-b.c.yaml"}) EXPECT_TRUE(is_manifest_name(good)) << good;
  for (const char* bad :
       {"", "a", "a.txt", ".a.yaml", ".a.yaml.swp", "a.yaml~", "#a.yaml#", "#a.yaml", "4913", "a.yaml.tmp"}) {
    EXPECT_FALSE(is_manifest_name(bad)) << bad;
  }
}

TEST_F(DirectoryTest, ReadFile) {
  write("conf/a.yaml", "hello");
  EXPECT_EQ(*read_file(root + "/a.yaml", 5), "hello");
  EXPECT_EQ(read_file(root + "/a.yaml", 4).error().message, "cannot be read: it is larger than 0 MiB");
  EXPECT_EQ(read_file(root + "/none", 4).error().message, "cannot be read: No such file or directory");
  EXPECT_EQ(read_file(root, 4).error().message, "cannot be read: it is not a regular file");
  mkfifo((root + "/pipe").c_str(), 0600);
  EXPECT_EQ(read_file(root + "/pipe", 4).error().message, "cannot be read: it is not a regular file");
  EXPECT_EQ(load_file(root + "/none.yaml").diagnostics.at(0).render(),
            root + "/none.yaml: cannot be read: No such file or directory");
}

TEST_F(DirectoryTest, LoadFilesKeepsTheOrder) {
  std::vector<std::string> paths;
  for (int i = 0; i < 1000; ++i) {
    std::string name = "conf/" + std::to_string(i) + ".yaml";
    write(name, "{kind: ConfigMap, apiVersion: v1, metadata: {name: m" + std::to_string(i) + "}}");
    paths.push_back(top + "/" + name);
  }
  auto loaded = load_files(paths, 2);
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(loaded[static_cast<size_t>(i)].objects.at(0).key.name, "m" + std::to_string(i));
}

TEST_F(DirectoryTest, Listing) {
  fs::create_directories(root + "/sub/deep");
  fs::create_directories(root + "/.git");
  write("conf/b.yaml");
  write("conf/a.json");
  write("conf/.hidden.yaml");
  write("conf/a.yaml~");
  write("conf/sub/deep/c.yml");
  write("conf/.git/d.yaml");
  open(root + "/");
  EXPECT_EQ(files(), "conf/a.json conf/b.yaml conf/sub/deep/c.yml");
  EXPECT_TRUE(directory->problems().empty());
  EXPECT_FALSE(directory->deadline());
}

TEST_F(DirectoryTest, OpenErrors) {
  EXPECT_EQ(Directory::open(top + "/none").error().message, top + "/none: No such file or directory");
  mkfifo((top + "/pipe").c_str(), 0600);
  EXPECT_EQ(Directory::open(top + "/pipe").error().message, top + "/pipe: is neither a directory nor a file");
}

TEST_F(DirectoryTest, WriteIsSeenAtOnce) {
  write("conf/a.yaml");
  open();
  uint64_t start = now_ms();
  write("conf/a.yaml", "y");
  EXPECT_EQ(changes(1000, "+conf/a.yaml"), "+conf/a.yaml");
  EXPECT_LT(now_ms() - start, 20u);
  write("conf/b.yaml");
  EXPECT_EQ(changes(1000, "+conf/b.yaml"), "+conf/b.yaml");
  EXPECT_EQ(files(), "conf/a.yaml conf/b.yaml");
  EXPECT_EQ(changes(), "");
}

TEST_F(DirectoryTest, RenameIntoPlaceIsSeenAtOnce) {
  write("conf/a.yaml");
  open();
  write("conf/a.yaml~", "y");
  fs::rename(root + "/a.yaml~", root + "/a.yaml");
  EXPECT_EQ(changes(1000, "+conf/a.yaml"), "+conf/a.yaml");
}

// What vim does: probe file, the old one away as a backup, the new one written, the backup deleted.
TEST_F(DirectoryTest, EditorDance) {
  write("conf/a.yaml");
  open();
  write("conf/4913");
  fs::remove(root + "/4913");
  fs::rename(root + "/a.yaml", root + "/a.yaml~");
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  write("conf/a.yaml", "new");
  fs::remove(root + "/a.yaml~");
  EXPECT_EQ(changes(), "+conf/a.yaml");
}

TEST_F(DirectoryTest, RemovalWaits) {
  write("conf/a.yaml");
  open();
  fs::remove(root + "/a.yaml");
  EXPECT_EQ(changes(20), "");
  EXPECT_EQ(changes(500, "-conf/a.yaml"), "-conf/a.yaml");
  EXPECT_EQ(files(), "");
}

TEST_F(DirectoryTest, RenamedFile) {
  write("conf/a.yaml");
  open();
  fs::rename(root + "/a.yaml", root + "/b.yaml");
  EXPECT_EQ(changes(), "+conf/b.yaml -conf/a.yaml");
}

TEST_F(DirectoryTest, OpenFileIsReportedWhenQuiet) {
  open();
  std::ofstream out(root + "/a.yaml");
  out << "1" << std::flush;
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(changes(20), "");
    out << "2" << std::flush;
  }
  EXPECT_EQ(changes(500, "+conf/a.yaml"), "+conf/a.yaml");
  out.close();
  EXPECT_EQ(changes(500, "+conf/a.yaml"), "+conf/a.yaml");
}

TEST_F(DirectoryTest, Directories) {
  write("conf/a.yaml");
  open();
  fs::create_directories(root + "/x/y");
  write("conf/x/y/b.yaml");
  EXPECT_EQ(changes(500, "+conf/x/y/b.yaml"), "+conf/x/y/b.yaml");
  write("conf/x/y/b.yaml", "2");
  EXPECT_EQ(changes(500, "+conf/x/y/b.yaml"), "+conf/x/y/b.yaml");
  fs::rename(root + "/x", root + "/z");
  EXPECT_EQ(changes(), "+conf/z/y/b.yaml -conf/x/y/b.yaml");
  write("conf/z/y/b.yaml", "3");
  EXPECT_EQ(changes(500, "+conf/z/y/b.yaml"), "+conf/z/y/b.yaml");
  fs::rename(root + "/z", top + "/outside");
  EXPECT_EQ(changes(), "-conf/z/y/b.yaml");
  write("outside/y/b.yaml", "4");
  EXPECT_EQ(changes(), "");
  fs::rename(top + "/outside", root + "/back");
  EXPECT_EQ(changes(), "+conf/back/y/b.yaml");
  fs::remove_all(root + "/back");
  EXPECT_EQ(changes(), "-conf/back/y/b.yaml");
  EXPECT_EQ(files(), "conf/a.yaml");
}

TEST_F(DirectoryTest, DirectoryReplaced) {
  fs::create_directory(root + "/d");
  write("conf/d/a.yaml", "old");
  write("conf/d/gone.yaml", "old");
  fs::create_directory(top + "/new");
  write("new/a.yaml", "newer");
  write("new/fresh.yaml", "new");
  open();
  fs::rename(root + "/d", top + "/old");
  fs::rename(top + "/new", root + "/d");
  EXPECT_EQ(changes(), "+conf/d/a.yaml +conf/d/fresh.yaml -conf/d/gone.yaml");
}

// A ConfigMap mount: a.yaml -> ..data/a.yaml, ..data -> ..1; an update makes ..2 and swaps ..data
// by rename.
TEST_F(DirectoryTest, ConfigMapMount) {
  fs::create_directory(root + "/..1");
  write("conf/..1/a.yaml", "1");
  write("conf/..1/b.yaml", "1");
  fs::create_directory_symlink("..1", root + "/..data");
  fs::create_symlink("..data/a.yaml", root + "/a.yaml");
  fs::create_symlink("..data/b.yaml", root + "/b.yaml");
  open();
  EXPECT_EQ(files(), "conf/a.yaml conf/b.yaml");
  for (int i = 2; i < 5; ++i) {
    std::string next = "..", last = "..";
    next += std::to_string(i);
    last += std::to_string(i - 1);
    fs::create_directory(root + "/" + next);
    write("conf/" + next + "/a.yaml", std::to_string(i));
    write("conf/" + next + "/b.yaml", std::to_string(i));
    fs::create_directory_symlink(next, root + "/..data_tmp");
    uint64_t start = now_ms();
    fs::rename(root + "/..data_tmp", root + "/..data");
    EXPECT_EQ(changes(1000, "+conf/a.yaml +conf/b.yaml"), "+conf/a.yaml +conf/b.yaml");
    EXPECT_LT(now_ms() - start, 30u);
    fs::remove_all(root + "/" + last);
    EXPECT_EQ(changes(), "");
  }
}

TEST_F(DirectoryTest, LinkTargetsAreWatched) {
  fs::create_directories(top + "/other/v1");
  write("other/v1/a.yaml");
  fs::create_directory_symlink("v1", top + "/other/current");
  fs::create_symlink("../other/current/a.yaml", root + "/a.yaml");
  open();
  write("other/v1/a.yaml", "22");
  EXPECT_EQ(changes(), "+conf/a.yaml");
  fs::create_directory(top + "/other/v2");
  write("other/v2/a.yaml", "333");
  fs::create_directory_symlink("v2", top + "/other/next");
  fs::rename(top + "/other/next", top + "/other/current");
  EXPECT_EQ(changes(), "+conf/a.yaml");
  fs::remove(top + "/other/current");
  EXPECT_EQ(changes(), "-conf/a.yaml");
}

TEST_F(DirectoryTest, LinkedDirectoriesAndLoops) {
  fs::create_directory(top + "/more");
  write("more/m.yaml");
  fs::create_directory_symlink(top + "/more", root + "/more");
  fs::create_directory_symlink(".", root + "/loop");
  fs::create_symlink("self", root + "/self");
  fs::create_symlink("nowhere", root + "/broken.yaml");
  open();
  EXPECT_EQ(files(), "conf/more/m.yaml");
  std::string problems;
  for (const auto& p : directory->problems()) problems += p.render().substr(top.size() + 1) + "\n";
  EXPECT_EQ(problems.find("conf/broken.yaml: cannot be read: No such file or directory") != problems.npos, true)
      << problems;
  EXPECT_EQ(problems.find("conf/loop: is left out: the link leads back to a directory above it") != problems.npos, true)
      << problems;
  write("more/n.yaml");
  EXPECT_EQ(changes(500, "+conf/more/n.yaml"), "+conf/more/n.yaml");
  fs::remove(root + "/more");
  EXPECT_EQ(changes(), "-conf/more/m.yaml -conf/more/n.yaml");
  fs::create_directory_symlink(top + "/more", root + "/again");
  EXPECT_EQ(changes(), "+conf/again/m.yaml +conf/again/n.yaml");
}

TEST_F(DirectoryTest, RootIsASwappedLink) {
  fs::create_directory(top + "/r1");
  fs::create_directory(top + "/r2");
  write("r1/a.yaml");
  write("r1/b.yaml");
  write("r2/a.yaml", "22");
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  fs::create_directory_symlink("r1", top + "/live");
  open(top + "/live");
  EXPECT_EQ(files(), "live/a.yaml live/b.yaml");
  fs::create_directory_symlink("r2", top + "/tmp");
  fs::rename(top + "/tmp", top + "/live");
  EXPECT_EQ(changes(), "+live/a.yaml -live/b.yaml");
  write("r2/c.yaml");
  EXPECT_EQ(changes(500, "+live/c.yaml"), "+live/c.yaml");
}

TEST_F(DirectoryTest, VanishedRootKeepsEverything) {
  write("conf/a.yaml");
  write("conf/b.yaml");
  open();
  fs::rename(root, top + "/away");
  EXPECT_EQ(changes(400), "");
  EXPECT_EQ(files(), "conf/a.yaml conf/b.yaml");
  ASSERT_FALSE(directory->problems().empty());
  EXPECT_EQ(directory->problems()[0].render(), root + ": cannot be read: No such file or directory");
  fs::create_directory(root);
  write("conf/a.yaml", "new");
  EXPECT_EQ(changes(600), "+conf/a.yaml -conf/b.yaml");
  EXPECT_TRUE(directory->problems().empty());
  write("conf/a.yaml", "newer");
  EXPECT_EQ(changes(500, "+conf/a.yaml"), "+conf/a.yaml");
}

TEST_F(DirectoryTest, SingleFile) {
  write("conf/a.yaml");
  write("conf/b.yaml");
  open(root + "/a.yaml");
  EXPECT_EQ(files(), "conf/a.yaml");
  write("conf/b.yaml", "2");
  EXPECT_EQ(changes(), "");
  write("conf/a.yaml", "2");
  EXPECT_EQ(changes(500, "+conf/a.yaml"), "+conf/a.yaml");
  write("conf/a.yaml~", "3");
  fs::rename(root + "/a.yaml~", root + "/a.yaml");
  EXPECT_EQ(changes(500, "+conf/a.yaml"), "+conf/a.yaml");
}

// A log that is written beside the root must not wake anybody.
TEST_F(DirectoryTest, WritingBesideTheRootIsNotSeen) {
  open();
  std::ofstream log(top + "/access.log");
  pollfd p{directory->fd(), POLLIN, 0};
  poll(&p, 1, 10);
  directory->on_readable(now_ms());
  for (int i = 0; i < 3; ++i) log << "line\n" << std::flush;
  EXPECT_EQ(poll(&p, 1, 10), 0);
}

TEST_F(DirectoryTest, UnreadableDirectory) {
  if (geteuid() == 0) GTEST_SKIP() << "root can read everything";
  fs::create_directory(root + "/d");
  write("conf/d/a.yaml");
  open();
  chmod((root + "/d").c_str(), 0);
  EXPECT_EQ(changes(), "");
  chmod((root + "/d").c_str(), 0700);
}

TEST_F(DirectoryTest, Burst) {
  open();
  for (int i = 0; i < 3000; ++i) write("conf/f" + std::to_string(i) + ".yaml", "1");
  std::set<std::string> seen;
  uint64_t end = now_ms() + 5000;
  while (now_ms() < end && seen.size() < 3000) {
    directory->on_readable(now_ms());
    for (const auto& f : directory->take(now_ms()).changed) seen.insert(f);
  }
  EXPECT_EQ(seen.size(), 3000u);
}

// Whatever is done to the tree, in the end the reported changes add up to what is there.
TEST_F(DirectoryTest, RandomOperationsConverge) {
  std::mt19937 random(11);
  open();
  std::map<std::string, std::string> known;
  auto follow = [&](uint64_t ms) {
    uint64_t end = now_ms() + ms;
    do {
      pollfd p{directory->fd(), POLLIN, 0};
      poll(&p, 1, 1);
      directory->on_readable(now_ms());
      auto batch = directory->take(now_ms());
      for (const auto& f : batch.removed) known.erase(f);
      for (const auto& f : batch.changed) {
        if (auto text = read_file(f, 1000)) known[f] = *text;
      }
    } while (now_ms() < end);
  };
  for (int round = 0; round < 25; ++round) {
    for (int i = 0; i < 20; ++i) {
      std::string a = root + "/d" + std::to_string(random() % 3), b = root + "/d" + std::to_string(random() % 3);
      std::string file = a + "/f" + std::to_string(random() % 4) + ".yaml";
      std::error_code ignored;
      switch (random() % 8) {
        case 0:
          fs::create_directory(a, ignored);
          break;
        case 1:
          fs::remove_all(a, ignored);
          break;
        case 2:
          fs::rename(a, b, ignored);
          break;
        case 3:
          fs::rename(a, b + "/inner", ignored);
          break;
        case 4:
          fs::remove(file, ignored);
          break;
        case 5:
          fs::rename(file, b + "/f9.yaml", ignored);
          break;
        default:
          std::ofstream(file) << random();
          break;
      }
      if (random() % 5 == 0) follow(0);
    }
    follow(130);
    std::map<std::string, std::string> real;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      if (entry.is_regular_file()) real[entry.path()] = *read_file(entry.path(), 1000);
    }
    ASSERT_EQ(known, real) << "round " << round;
    std::vector<std::string> names;
    for (const auto& [name, text] : real) names.push_back(name);
    ASSERT_EQ(directory->files(), names);
  }
}

}  // namespace
}  // namespace sluice::source
