"""How ImageNet networks normalise their images."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN, CAFFE_STD = (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3  # red, green, blue; the networks take BGR
