# What `make image BOARD=ESP32_GENERIC_S3` compiled, frozen into the firmware, where it takes the least RAM.
# Leave the second line out where the code is to come from the partition "romfs" instead.
include("$(PORT_DIR)/boards/manifest.py")
freeze_mpy("../../build/image/ESP32_GENERIC_S3/lib")
