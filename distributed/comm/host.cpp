#include "distributed/comm/host.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "src/base/file.h"

namespace dfmoa::comm {

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) base::throw_errno("asking the host's name");
  return name.data();
}

HostPlace place_on_host(Communicator& comm, const std::string& host) {
  const auto hosts = comm.gather_text(host, "start/host");
  const auto here = hosts.begin() + comm.process();
  return {static_cast<int>(std::count(hosts.begin(), here, host)),
          static_cast<int>(std::count(hosts.begin(), hosts.end(), host))};
}

}  // namespace dfmoa::comm
