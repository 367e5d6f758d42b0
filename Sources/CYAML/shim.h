// libyaml's event parser; everything in it imports as it is.
#pragma once
#include <yaml.h>
