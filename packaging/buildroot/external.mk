include $(sort $(wildcard $(BR2_EXTERNAL_BOUNCESCOPE_PATH)/package/*/*.mk))
