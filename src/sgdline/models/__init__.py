"""The papers' networks, a loader for anyone else's, and the flat vector of their parameters.

A factory takes `input_shape` (channels, height, width), `num_classes` and options of its own, all by keyword, and
draws the weights from torch's global generator; `build_model` seeds it and puts it back.
"""

from sgdline.models.densenet import densenet as densenet
from sgdline.models.loading import build_model as build_model
from sgdline.models.loading import check_model as check_model
from sgdline.models.mlp import mlp as mlp
from sgdline.models.mobilenet import mobilenet_v2 as mobilenet_v2
from sgdline.models.mobilenet import tiny_mobilenet as tiny_mobilenet
from sgdline.models.parameters import ParameterVector as ParameterVector
from sgdline.models.parameters import buffers_of as buffers_of
from sgdline.models.parameters import count_parameters as count_parameters
from sgdline.models.parameters import restore_buffers as restore_buffers
from sgdline.models.preact_resnet import preact_resnet10 as preact_resnet10
from sgdline.models.preact_resnet import preact_resnet18 as preact_resnet18
from sgdline.models.preact_resnet import preact_resnet34 as preact_resnet34
from sgdline.models.preact_resnet import preact_resnet56 as preact_resnet56
from sgdline.models.preact_resnet import wide_resnet28 as wide_resnet28
from sgdline.models.resnet18 import resnet18 as resnet18
from sgdline.models.resnet18 import resnet18_plain as resnet18_plain
from sgdline.models.resnet18 import resnet34_plain as resnet34_plain
from sgdline.models.resnet_cifar import resnet20 as resnet20
from sgdline.models.resnet_cifar import resnet32 as resnet32
from sgdline.models.resnet_cifar import resnet56 as resnet56
from sgdline.models.tiny import tiny_preact_resnet as tiny_preact_resnet
from sgdline.models.tiny import tiny_resnet as tiny_resnet
from sgdline.models.vgg import tiny_vgg as tiny_vgg
from sgdline.models.vgg import vgg11 as vgg11
from sgdline.models.vgg import vgg11_tiny_imagenet as vgg11_tiny_imagenet
from sgdline.models.vgg import vgg16 as vgg16
