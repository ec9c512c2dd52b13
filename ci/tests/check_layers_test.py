"""Planted violations of the layers are found; what is allowed is not."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import check_layers  # noqa: E402

GOOD = {
    "src/base/error.h": "#include <string>\n",
    "kernels/nf4.h": '#include "src/base/error.h"\n',
    "distributed/comm/mpi.h": '#include "src/base/error.h"\n#include <mpi.h>\n',
    "src/formats/gguf.h": '#include "src/base/error.h"\n',
    "src/data/packing.h": '#include "src/formats/gguf.h"\n',
    "src/ops/nf4.h": '#include "kernels/nf4.h"\n#include <ATen/core/Tensor.h>\n',
    "src/adapters/bank.h": '#include "src/ops/nf4.h"\n',
    "src/model/block.h": '#include "src/adapters/bank.h"\n#include "src/data/packing.h"\n',
    "distributed/mesh.h": '#include "distributed/comm/mpi.h"\n#include "src/model/block.h"\n',
    "checkpoints/writer.h": '#include "src/formats/gguf.h"\n#include "kernels/nf4.h"\n',
    "src/train/step.cpp": '#include "distributed/mesh.h"\n#include "checkpoints/writer.h"\n',
    "launch/main.cpp": '#include "src/base/error.h"\n',
    "src/base/log.cpp": "#include <spdlog/spdlog.h>\n",
}


class CheckLayers(unittest.TestCase):
    def problems(self, planted=None):
        """The check's findings in the good tree with files added."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**GOOD, **(planted or {})}.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return check_layers.check(folder)

    def assert_found(self, name, text, expected):
        found = self.problems({name: text})
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])
        self.assertTrue(found[0].startswith(name), found)

    def test_a_good_tree_passes(self):
        self.assertEqual(self.problems(), [])

    def test_an_include_of_a_higher_layer_is_found(self):
        self.assert_found("src/base/bad.h", '#include "src/formats/gguf.h"\n', "layer base")
        self.assert_found("src/gates/bad.h", '#include "src/adapters/bank.h"\n', "layer gates")

    def test_neighbours_do_not_see_each_other(self):
        self.assert_found("kernels/bad.h", '#include "distributed/comm/mpi.h"\n', "of layer comm")
        self.assert_found("src/data/bad.h", '#include "kernels/nf4.h"\n', "of layer kernels")

    def test_torch_in_a_torch_free_layer_is_found(self):
        self.assert_found("kernels/bad.cpp", "#include <torch/torch.h>\n", "torch-free")
        self.assert_found("distributed/comm/bad.h", "#include <c10/core/Device.h>\n", "torch-free")

    def test_torch_behind_a_header_is_found(self):
        self.assert_found("checkpoints/bad.h", '#include "src/ops/nf4.h"\n', "-> ATen/core")

    def test_torch_in_a_cuda_source_is_found(self):
        self.assert_found("src/ops/bad.cu", "#include <ATen/core/Tensor.h>\n", "CUDA source")

    def test_spdlog_stays_in_torch_free_cpp_files(self):
        self.assert_found("src/base/bad.h", "#include <fmt/format.h>\n", "not by a header")
        both = '#include "src/ops/nf4.h"\n#include <spdlog/spdlog.h>\n'
        self.assert_found("src/train/bad.cpp", both, "clash")

    def test_a_path_that_is_not_root_relative_is_found(self):
        self.assert_found("src/base/bad.cpp", '#include "error.h"\n', "from the root")

    def test_an_unknown_layer_is_found(self):
        self.assert_found("src/misc/bad.h", "#include <string>\n", "no known layer")

    def test_a_tree_without_sources_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("no sources", check_layers.check(folder)[0])


if __name__ == "__main__":
    unittest.main()
