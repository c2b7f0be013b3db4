"""How ImageNet networks normalise their images."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
