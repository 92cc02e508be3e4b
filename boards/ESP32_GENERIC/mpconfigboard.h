#define MICROPY_HW_BOARD_NAME "ESP32 with motelet"
#define MICROPY_HW_MCU_NAME "ESP32"

// The partition "romfs", mounted at /rom before main.py runs.
#define MICROPY_VFS_ROM (1)
#define MICROPY_VFS_ROM_IOCTL (1)
