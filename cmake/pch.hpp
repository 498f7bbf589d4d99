// The heavy headers, compiled once. Sources still include what they use.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>
