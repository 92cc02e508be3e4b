"""DeviceController: Device and DeviceModel go down to the boards, reports come up into DeviceStatus."""
