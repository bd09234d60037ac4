"""Which datasets an option file asks for, by their `dataset_type`."""

from pathlib import Path

from data.batches import Crops
from data.dataset_degraded import CleanImages, Degraded, DegradedCrops, of_train_set
from data.dataset_sr import SRCrops, SRImages, define_pairs, define_store
from data.folders.derived import joined_name, stores_folder
from data.folders.files import check_known_count, describe_files, list_images
from data.folders.test_sets import result_labels
from data.stores.mapped import decoded
from utils.imaging.degradations import of_test_set, reader
from utils.options.datasets import ImageSet, TestSet
from utils.options.schema import Options
from utils.process import dist
from utils.process.errors import UserError

TestImages = SRImages | Degraded


def define_tests(options: Options) -> dict[str, TestImages]:
    """The test sets of the option file, by name.

    Raises:
        UserError: as `sr_pairs`, or two images have the same name.
    """
    return {test.name: define_test(test, options) for test in options.datasets.tests}


def define_test(test: TestSet, options: Options) -> TestImages:
    """One test set."""
    channels = options.n_channels
    labels = result_labels([folders.H for folders in test.folders])
    if test.dataset_type == "sr":
        return SRImages(define_pairs(test, options), scale=options.scale, channels=channels, labels=labels)
    files = clean_files(test)
    read = reader(jpeg=test.dataset_type == "jpeg", channels=channels)
    return Degraded(files, read=read, degrade=of_test_set(test), labels=labels)


def define_crops(options: Options) -> Crops:
    """The training crops of the option file.

    No image may be smaller than the crop, which `data.folders.check` sees to.

    Raises:
        UserError: as `define_sr_crops` and `define_degraded_crops`, or the batch cannot be split.
    """
    train = options.datasets.train
    if train.dataloader_batch_size % dist.world_size():
        raise UserError(
            f"datasets.train.dataloader_batch_size: {train.dataloader_batch_size} cannot be split over "
            f"{dist.world_size()} processes"
        )
    return define_sr_crops(options) if train.dataset_type == "sr" else define_degraded_crops(options)


def define_sr_crops(options: Options) -> SRCrops:
    """Crops of pairs, from the decoded-image store unless the option file says otherwise.

    Raises:
        UserError: as `sr_pairs` and `decoded`.
    """
    train = options.datasets.train
    pairs = define_pairs(train, options)
    store = None if train.cache == "none" else define_store(pairs, options)
    images = SRImages(pairs, scale=options.scale, channels=options.n_channels, store=store)
    seed, zoomed = options.train.manual_seed, options.train.zoomed_inputs
    return SRCrops(images, H_size=train.H_size, seed=seed, zoomed=zoomed)


def define_degraded_crops(options: Options) -> DegradedCrops:
    """Crops of clean images, from the decoded-image store unless the option file says otherwise.

    Raises:
        UserError: as `clean_files` and `decoded`.
    """
    train, channels = options.datasets.train, options.n_channels
    files, store = clean_files(train), None
    if train.cache != "none":
        folder = stores_folder(train.folders, cache=options.path.cache_folder)
        store = decoded(files, channels=channels, folder=folder, label=f"{joined_name(train.folders)}-{channels}ch")
    images = CleanImages(files, channels=channels, store=store)
    return DegradedCrops(images, H_size=train.H_size, seed=options.train.manual_seed, degrade=of_train_set(train))


def clean_files(dataset: ImageSet) -> list[Path]:
    """The images of a dataset without LR images, folder by folder.

    Raises:
        UserError: there are none, or not all, or the processes of the run see different files.
    """
    files = []
    for folders in dataset.folders:
        of_folder = list_images(folders.H)
        check_known_count(folders.H, len(of_folder))
        files += of_folder
    dist.check_same(dataset.name, describe_files(files))
    return files
