# Boards that QEMU plays. A real one needs its own start-up code and linker script in their place.

ARM_FLAGS = -mcpu=$(CORE) -mthumb
ARM_FLASH := 0x00000000
ARM_RAM := 0x20000000
ifeq ($(CORE),cortex-m0plus)
MACHINE := mps2-an385
else ifeq ($(CORE),cortex-m3)
MACHINE := mps2-an385
else ifeq ($(CORE),cortex-m4)
MACHINE := mps2-an386
else ifeq ($(CORE),cortex-m7)
MACHINE := mps2-an500
else ifeq ($(CORE),cortex-m55)
MACHINE := mps3-an547
ARM_FLAGS += -mfloat-abi=hard
ARM_RAM := 0x21000000
else ifeq ($(CORE),riscv32)
else
$(error CORE=$(CORE) is unknown: cortex-m0plus, cortex-m3, cortex-m4, cortex-m7, cortex-m55, riscv32)
endif

BUILD := build/$(CORE)
NO_LIBRARY := -ffreestanding -ffunction-sections -fdata-sections -nostartfiles
ifeq ($(CORE),riscv32)
CROSS ?= riscv64-unknown-elf-
BOARD_FLAGS = -march=rv32imac_zicsr -mabi=ilp32 -mcmodel=medany $(NO_LIBRARY) -nostdlib
BOARD_SOURCES := boards/riscv.c
LINK = -Wl,--gc-sections -T boards/riscv.ld -lgcc
QEMU = qemu-system-riscv32 -M virt -bios none -nographic -monitor none
else
CROSS ?= arm-none-eabi-
BOARD_FLAGS = $(ARM_FLAGS) $(NO_LIBRARY) --specs=nano.specs --specs=nosys.specs
BOARD_SOURCES := boards/cortex_m.c
LINK = -Wl,--gc-sections -Wl,--no-warn-rwx-segments -Wl,--defsym=board_flash=$(ARM_FLASH) -Wl,--defsym=board_ram=$(ARM_RAM) -T boards/cortex_m.ld
QEMU = qemu-system-arm -M $(MACHINE) -nographic -monitor none -semihosting-config enable=on,target=native
endif
OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(SOURCES) selftest.c $(BOARD_SOURCES))

elf: $(BUILD)/selftest.elf

run: $(BUILD)/selftest.elf
	$(QEMU) $(QEMU_FLAGS) -kernel $<

size: $(BUILD)/selftest.elf
	$(CROSS)size $(patsubst %.c,$(BUILD)/%.o,$(SOURCES))

$(BUILD)/selftest.elf: $(OBJECTS)
	$(CROSS)gcc $(BOARD_FLAGS) -o $@ $^ $(LINK) -Wl,-Map=$(BUILD)/selftest.map

$(BUILD)/%.o: %.c selftest_data.h $(wildcard *.h onebit/*.h)
	@mkdir -p $(@D)
	$(CROSS)gcc -std=gnu99 $(CFLAGS) $(BOARD_FLAGS) $(INCLUDES) -c -o $@ $<

.PHONY: elf run size
